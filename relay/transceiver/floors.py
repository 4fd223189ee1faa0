"""A call's turn-taking machine, set as the transceiver's configuration and the speech detector want it."""

from __future__ import annotations

from dataclasses import replace

from relay.transceiver.config import TransceiverConfig
from voice.floor import Floor
from voice.vad import Vad


def make_floor(config: TransceiverConfig, vad: Vad) -> Floor:
    """Return a new machine for the user heard by `vad`."""
    floor = config.floor
    if not floor.detector_hangover_ms:
        floor = replace(floor, detector_hangover_ms=vad.hangover_ms)
    return Floor(floor, vad.name)
