"""How a caller asks an agent to behave, in a header: only `BehaviourError`, and floats that are numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from relay.transceiver.behaviour import BehaviourError, behaving
from relay.transceiver.config import TransceiverConfig
from tests.fuzz.messages_of import KEY

MODULES: Final[tuple[str, ...]] = ("relay.transceiver.behaviour",)

_CONFIG: Final = TransceiverConfig(code="alph", region="test", ufrag_key=KEY, host_id="host", behaviours=True)


def seeds() -> Mapping[str, bytes]:
    """Every wish, and what is none."""
    return {
        "all": b'{"think_ms": 3000, "think_spread": 0, "endpoint_silence_ms": 250, "barge_in_ms": 60000}',
        "unknown": b'{"sing": 1}',
        "nan": b'{"think_ms": NaN}',
    }


def run(data: bytes) -> None:
    """Ask for it."""
    try:
        config = behaving(_CONFIG, data.decode("latin-1"))
    except BehaviourError:
        return
    assert math.isfinite(config.model.think_median_ms)
    assert math.isfinite(config.floor.endpoint_silence_ms)
