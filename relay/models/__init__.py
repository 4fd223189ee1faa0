"""Voice models behind one protocol.

`protocol` says what the transceiver asks of a model, `echo` and `scripted` are two of them, `catalogue` makes one by
name. A new model is a class with the protocol's methods and one line in the catalogue.
"""

from relay.models.catalogue import NAMES, ModelConfig, create
from relay.models.protocol import (
    FRAME_MS,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Audio,
    FirstToken,
    ModelError,
    ModelOutput,
    Pcm,
    VoiceModel,
)

__all__ = [
    "FRAME_MS",
    "FRAME_SAMPLES",
    "NAMES",
    "SAMPLE_RATE",
    "Audio",
    "FirstToken",
    "ModelConfig",
    "ModelError",
    "ModelOutput",
    "Pcm",
    "VoiceModel",
    "create",
]
