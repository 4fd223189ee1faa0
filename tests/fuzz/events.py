"""Events of an application's data channel: only `NoEventError`; whatever is an event is answered with events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from relay.models import ModelConfig, create
from relay.transceiver.events import NoEventError, read_event
from relay.transceiver.realtime import RealtimeEvents
from voice.floor import Control

MODULES: Final[tuple[str, ...]] = (
    "relay.transceiver.events",
    "relay.transceiver.realtime",
    "relay.transceiver.story",
    "relay.models.openai_session",
)

_CONFIG: Final = ModelConfig("echo")


class _Controls:
    def answer(self) -> bool:
        return False

    def cut(self) -> bool:
        return True

    def leave(self, control: Control) -> None:
        self.control = control

    def commit(self) -> None:
        pass


def seeds() -> Mapping[str, bytes]:
    """One of each kind that clients send."""
    events: dict[str, dict[str, Any]] = {
        "session.update": {
            "session": {"type": "realtime", "instructions": "x", "audio": {"input": {"turn_detection": None}}}
        },
        "response.create": {"response": {"instructions": "x"}},
        "response.cancel": {"response_id": "r"},
        "conversation.item.create": {"item": {"type": "message", "role": "user", "content": []}},
        "conversation.item.delete": {"item_id": "i"},
        "conversation.item.truncate": {"item_id": "i", "content_index": 0, "audio_end_ms": 1_500},
        "input_audio_buffer.clear": {},
        "input_audio_buffer.commit": {},
        "input_audio_buffer.append": {"audio": "AAAA"},
        "output_audio_buffer.clear": {},
        "unknown": {"event_id": "e"},
    }
    return {kind: json.dumps({"type": kind, **rest}).encode() for kind, rest in events.items()}


def run(data: bytes) -> None:
    """Take it as a call does."""
    try:
        event = read_event(data.decode("utf-8", "replace"))
    except NoEventError:
        return
    told: list[str] = []
    realtime = RealtimeEvents("call", create(_CONFIG, 1), lambda out: told.append(json.dumps(out)), {})
    realtime.control(_Controls())
    try:
        realtime.received(event)
    except RecursionError:  # the channel takes this one, too
        return
    assert len(told) <= 4
    assert sum(map(len, told)) <= 20_000 + 16 * len(data)
