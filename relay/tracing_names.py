"""What spans, their events and their attributes are called. Nothing else in the code spells such a name.

`gen_ai.*` and `user_agent.original` are OpenTelemetry's semantic conventions; those for generative AI are in
development and change, so that few of them are used here. What they have no name for, the parts of a spoken turn above
all, is ours, under `sidetone.`, with the unit in the name. Parts of a turn are called as in `docs/metrics.md`.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "sidetone.relay"
SERVICE: Final = "sidetone"
SERVICE_VERSION: Final = "service.version"
SERVICE_NAME: Final = "service.name"

# Spans.

CALL: Final = "call"
TURN: Final = "turn"
USER_SPEECH: Final = "user speech"
JITTER_BUFFER: Final = "uplink jitter buffer"
VAD_HANGOVER: Final = "vad hangover"
ENDPOINT_WAIT: Final = "endpoint wait"
MODEL: Final = "model"
PACING: Final = "pacing"
AGENT_SPEECH: Final = "agent speech"

# Attributes of a call.

SESSION_ID: Final = "sidetone.session.id"
REGION: Final = "sidetone.region"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CLOSED_BY: Final = "sidetone.closed.by"
CLOSED_REASON: Final = "sidetone.closed.reason"
OF_SESSION: Final = {
    "edge": "sidetone.edge",
    "transceiver": "sidetone.transceiver",
    "transceiver_region": "sidetone.transceiver.region",
    "codec": "sidetone.codec",
    "model": "sidetone.model",
    "version": "sidetone.version",
    "config_hash": "sidetone.config_hash",
    "signalling": "sidetone.signalling",
    "user_agent": "user_agent.original",
}
"""Attributes of a session's `offered` fact."""

# Attributes of a turn and its parts.

TURN_ID: Final = "sidetone.turn.id"
RESPONSE_MS: Final = "sidetone.response_ms"
ENDPOINTING: Final = "sidetone.endpointing"
UNASKED: Final = "sidetone.unasked"
OVER_USER: Final = "sidetone.over_user"
REASON: Final = "sidetone.reason"
LEFT_OUT: Final = "sidetone.left_out"
OPERATION: Final = ("gen_ai.operation.name", "generate_content")
OUTPUT_TYPE: Final = ("gen_ai.output.type", "speech")
TIME_TO_FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
OF_TURN: Final = {
    "reason": REASON,
    "detector": "sidetone.detector",
    "probability": "sidetone.probability",
    "threshold": "sidetone.threshold",
    "silence_ms": "sidetone.silence_ms",
}
"""Columns of a turn fact."""


def event(kind: str) -> str:
    """Return the event's name for a kind of turn fact, or a step of a session."""
    return f"sidetone.{kind}"
