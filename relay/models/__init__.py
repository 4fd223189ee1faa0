"""Voice models behind one protocol.

`protocol` says what the transceiver asks of a model; `echo`, `scripted` and `openai_realtime` are three of them;
`catalogue` makes one by name. A new model is a class derived from `Model` and one line in the catalogue.
"""

from relay.models.catalogue import NAMES, Application, ModelConfig, create, environment_key
from relay.models.openai_session import OpenAIConfig
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
    "Application",
    "Audio",
    "Event",
    "FirstToken",
    "Model",
    "ModelConfig",
    "ModelError",
    "ModelListener",
    "ModelOutput",
    "OpenAIConfig",
    "Pcm",
    "ToolEnded",
    "ToolStarted",
    "Transcript",
    "VoiceModel",
    "create",
    "environment_key",
]
