"""What a caller may ask of its call's agent, where the server lets callers ask; for both ends of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HEADER: Final = "sidetone-behaviour"
"""Of the request with the offer; it holds a JSON object."""

MS_MAX: Final = 600_000.0

LIMITS: Final[Mapping[str, float]] = {
    "think_ms": MS_MAX,
    "think_spread": 2.0,
    "endpoint_silence_ms": MS_MAX,
    "barge_in_ms": MS_MAX,
}
"""What may be asked, with the largest value: the think time of a model that only pretends to think and the deviation of
its logarithm; the silence after which a turn is over; how long the user must speak over the agent to take the floor."""
