"""A call's turn-taking machine, set as the transceiver's configuration and the speech detector want it."""

from __future__ import annotations

from dataclasses import replace

from relay.transceiver.config import TransceiverConfig
from voice.endpointing import Predictor
from voice.floor import Floor
from voice.vad import Vad


def make_floor(config: TransceiverConfig, vad: Vad, predictor: Predictor | None = None) -> Floor:
    """Return a new machine for the user heard by `vad`; a predictor is used if the configuration has turns so ended."""
    floor = config.floor
    if config.endpointing == "model":
        floor = replace(floor, endpointing="model")
    elif config.endpointing != "silence" and predictor is not None:
        threshold = predictor.threshold if config.endpoint_threshold is None else config.endpoint_threshold
        floor = replace(floor, endpointing="predictor", threshold=threshold)
    if not floor.detector_hangover_ms:
        floor = replace(floor, detector_hangover_ms=vad.hangover_ms)
    return Floor(floor, vad.name)
