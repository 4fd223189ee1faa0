"""An agent that errs on purpose: what a caller may ask of one call's agent, where the server lets callers ask.

Turn-taking errors can only be measured if they happen. A test caller therefore sends, with its offer, how its agent
shall behave; that call's configuration is changed accordingly and written down with the call (the `config` input), so
that nobody can take a provoked error for a real one. A server that is not told to allow this refuses such calls.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from relay.behaviours import HEADER, LIMITS
from relay.transceiver.config import TransceiverConfig

CHARS_MAX: Final = 500


class BehaviourError(ValueError):
    """A behaviour that is not taken; the message says why."""


def behaving(config: TransceiverConfig, asked: str | None) -> TransceiverConfig:
    """Return the configuration for a call whose caller sent this behaviour, a JSON object; None asks nothing.

    Raises:
        BehaviourError: it is not allowed here, or cannot be read.

    """
    if asked is None:
        return config
    if not config.behaviours:
        raise BehaviourError("this server's agent takes no orders from callers; SIDETONE_BEHAVIOURS=true allows it")
    values = _read(asked)
    model = config.model
    # What is asked must not depend on what a predictor makes of it, nor be mended by an agent that goes on again.
    floor = replace(config.floor, speculate_ms=None, backchannel_ms=0.0)
    if "think_ms" in values:
        model = replace(model, think_median_ms=values["think_ms"])
    if "think_spread" in values:
        model = replace(model, think_sigma=values["think_spread"])
    if "endpoint_silence_ms" in values:
        silence_ms = values["endpoint_silence_ms"]
        floor = replace(floor, endpoint_silence_ms=silence_ms, pause_ms=min(floor.pause_ms, silence_ms))
    if "barge_in_ms" in values:
        floor = replace(floor, barge_in_ms=values["barge_in_ms"])
    return replace(config, model=model, floor=floor, endpointing="silence")


def _read(asked: str) -> dict[str, float]:
    known = ", ".join(LIMITS)
    try:
        given = json.loads(asked) if len(asked) <= CHARS_MAX else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise BehaviourError(f"the header {HEADER} holds a JSON object with any of {known}")
    for name, value in given.items():
        if name not in LIMITS:
            raise BehaviourError(f"there is no behaviour {name[:64]!r}; there are {known}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LIMITS[name]:
            raise BehaviourError(f"{name} must be a number within 0 … {LIMITS[name]:g}")
    return {name: float(value) for name, value in given.items()}
