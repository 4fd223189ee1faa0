"""Voice models behind one protocol.

`protocol` says what the transceiver asks of a model, `echo` and `scripted` are two of them, `catalogue` makes one by
name. A new model is a class derived from `Model` and one line in the catalogue.
"""

from relay.models.catalogue import NAMES, ModelConfig, create
from relay.models.protocol import (
    FRAME_MS,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Audio,
    Event,
    FirstToken,
    Model,
    ModelError,
    ModelListener,
    ModelOutput,
    Pcm,
    ToolEnded,
    ToolStarted,
    Transcript,
    VoiceModel,
)

__all__ = [
    "FRAME_MS",
    "FRAME_SAMPLES",
    "NAMES",
    "SAMPLE_RATE",
    "Audio",
    "Event",
    "FirstToken",
    "Model",
    "ModelConfig",
    "ModelError",
    "ModelListener",
    "ModelOutput",
    "Pcm",
    "ToolEnded",
    "ToolStarted",
    "Transcript",
    "VoiceModel",
    "create",
]
