"""What the Realtime API is told of a session: our settings, and what of an application's wishes may stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from voice.floor_config import Control

DETECTIONS: Final = ("own", "server_vad", "semantic_vad")
DEPTH: Final = 4
"""`audio`, `input`, `turn_detection` and a field of it: no object of a session lies deeper that is merged."""

_PCM: Final = {"type": "audio/pcm", "rate": 24_000}
_OURS: Final = {"create_response": False, "interrupt_response": False}


@dataclass(frozen=True, slots=True)
class OpenAIConfig:
    """Which Realtime API, and how it is set. The key is none of these, as settings are written into facts.

    Attributes:
        url: of the WebSocket endpoint.
        model: name of the model there.
        voice: the agent's voice; None: the server's default.
        instructions: system prompt; None: the server's default.
        turn_detection: `own`: our floor machine alone; `server_vad`, `semantic_vad`: the server says, too, when a turn
            is over.
        transcription: model that transcribes the user; None: no transcripts.
        hand_on: whether a caller's own bearer token is used instead of ours.

    Raises:
        ValueError: the URL is no WebSocket's or has a password in it, or there is no such turn detection.

    """

    url: str = "wss://api.openai.com/v1/realtime"
    model: str = "gpt-realtime"
    voice: str | None = None
    instructions: str | None = None
    turn_detection: str = "own"
    transcription: str | None = None
    hand_on: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.username or parts.password:
            raise ValueError("the Realtime API's URL is ws://HOST/PATH or wss://HOST/PATH, without a user or password")
        if self.turn_detection not in DETECTIONS:
            raise ValueError(f"turn detection is one of {', '.join(DETECTIONS)}, not {self.turn_detection!r}")

    @property
    def full_url(self) -> str:
        """The URL with the model's name in its query."""
        parts = urlsplit(self.url)
        query = dict(parse_qsl(parts.query))
        return urlunsplit(parts._replace(query=urlencode({**query, "model": self.model})))

    @property
    def http_url(self) -> str:
        """The URL of the same endpoint for plain requests."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(scheme="https" if parts.scheme == "wss" else "http", query=""))


def session_of(base: OpenAIConfig | Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the session to ask the server for: settings, or an earlier session, with wishes in it."""
    if isinstance(base, OpenAIConfig):
        return merged(_settings(base), sanitised(wishes, own_endpointing=base.turn_detection == "own"))
    return merged(base, wishes)


def sanitised(wishes: Mapping[str, Any], *, own_endpointing: bool) -> dict[str, Any]:
    """Return an application's session fields without those that the call's media path rests on.

    The audio formats are ours, and the server never answers or stops by itself: the floor machine does, or the
    application. With our own endpointing the server's detector is off, as where the application wants none.
    """
    result = {name: value for name, value in wishes.items() if name not in ("model", "id", "object", "expires_at")}
    result["type"] = "realtime"
    audio = result.pop("audio", None)
    if isinstance(audio, Mapping):
        heard, said = audio.get("input"), audio.get("output")
        kept: dict[str, Any] = {}
        if isinstance(heard, Mapping):
            kept["input"] = {name: value for name, value in heard.items() if name != "format"}
            detection = kept["input"].pop("turn_detection", None)
            if isinstance(detection, Mapping) and not own_endpointing:
                kept["input"]["turn_detection"] = {**detection, **_OURS}
            elif detection is None and "turn_detection" in heard:
                kept["input"]["turn_detection"] = None
        if isinstance(said, Mapping):
            kept["output"] = {name: value for name, value in said.items() if name != "format"}
        result["audio"] = kept
    return result


def control_of(session: Mapping[str, Any], before: Control) -> Control:
    """Return what a session, or an update of one, leaves to the application; what it does not name is as before."""
    audio = session.get("audio")
    heard = audio.get("input") if isinstance(audio, Mapping) else None
    if not isinstance(heard, Mapping) or "turn_detection" not in heard:
        return before
    detection = heard["turn_detection"]
    if not isinstance(detection, Mapping):
        return Control(turn_detection=detection is not None)
    named = {
        name: value
        for name in ("create_response", "interrupt_response")
        if isinstance(value := detection.get(name), bool)
    }
    return replace(before if before.turn_detection else Control(), **named)


def merged(old: Mapping[str, Any], new: Mapping[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """Return a session with an update's fields in it: objects are merged to a depth, anything else is replaced."""
    result = dict(old)
    for name, value in new.items():
        known = result.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping) and depth > 1
        result[name] = merged(known, value, depth - 1) if both else value  # type: ignore[arg-type]
    return result


def _settings(config: OpenAIConfig) -> dict[str, Any]:
    own = config.turn_detection == "own"
    heard: dict[str, Any] = {"format": _PCM, "turn_detection": None}
    if not own:
        heard["turn_detection"] = {"type": config.turn_detection, **_OURS}
    if config.transcription is not None:
        heard["transcription"] = {"model": config.transcription}
    said: dict[str, Any] = {"format": _PCM}
    if config.voice is not None:
        said["voice"] = config.voice
    session = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": heard, "output": said}}
    return session if config.instructions is None else {**session, "instructions": config.instructions}
