"""A conversation's facts, told as events of OpenAI's Realtime API."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from relay.models import Event
from voice.turns import TurnEvent

Status = Literal["completed", "cancelled", "failed"]

_PCM: Final = {"type": "audio/pcm", "rate": 24_000}


@dataclass(slots=True)
class Response:
    """An answer that the client knows of.

    Attributes:
        id: as in `response.created`.
        item: id of its assistant message, once its audio is heard.
        words: what it said so far.
        done: whether `response.done` was told.
        cut: whether the client stopped it.
        foreign: whether the model made it and tells of it.
        since_ms: from where on the agent's media clock it is being heard; None while it is not.
        heard_ms: how much of it was heard before that.
        broken_off: whether it fell silent before its end.

    """

    id: str
    item: str | None = None
    words: list[str] = field(default_factory=list)
    done: bool = False
    cut: bool = False
    foreign: bool = False
    since_ms: float | None = None
    heard_ms: float = 0.0
    broken_off: bool = False


class Story:
    """Turns turn facts into events.

    Args:
        call_id: of the session.
        tell: takes an event without its `event_id`.

    """

    def __init__(self, call_id: str, tell: Callable[[Event], None]) -> None:
        self._conversation = f"conv_{call_id}"
        self._tell = tell
        self._response: Response | None = None
        self._next: deque[Response] = deque()  # that the model has begun, to be heard after the present one
        self._user_items: dict[int, str] = {}
        self._committed = 0
        self._last_item: str | None = None

    def turn(self, event: TurnEvent) -> None:
        """Tell of one turn fact."""
        heard_ms = round(event.audio_ms or 0)
        match event.kind:
            case "user_speech_started":
                told = {"audio_start_ms": heard_ms, "item_id": self._user_item(event.turn_id)}
                self._tell({"type": "input_audio_buffer.speech_started", **told})
            case "user_speech_stopped":
                told = {"audio_end_ms": heard_ms, "item_id": self._user_item(event.turn_id)}
                self._tell({"type": "input_audio_buffer.speech_stopped", **told})
            case "endpoint_decided":
                # Where the application asks for answers, the same turn may be added to before it is answered.
                added = event.reason == "application" or event.inputs.get("create_response") is False
                self._commit(event.turn_id, added=added)
            case "endpoint_revoked":
                self.end("cancelled", reason="turn_detected")
            case "response_requested":
                self._give_up()
                self._begin()
            case "agent_audio_started" | "agent_resumed":
                self._audible(event.audio_ms)
            case "agent_audio_stopped":
                self._silent(event.reason or "completed", event.audio_ms)

    def words(self, text: str) -> None:
        """Tell some words of the answer."""
        response = self._begin()
        response.words.append(text)
        self._tell({"type": "response.output_audio_transcript.delta", **self._part(response), "delta": text})

    def item(self, item: Mapping[str, Any]) -> None:
        """Tell that an item is in the conversation."""
        told = {"id": f"item_{uuid.uuid4().hex[:20]}", **item}
        added = {"previous_item_id": self._last_item, "item": told}
        self._tell({"type": "conversation.item.added", **added})
        self._tell({"type": "conversation.item.done", **added})
        self._last_item = str(told["id"])

    def adopt(self, response_id: str) -> None:
        """Learn that the model itself has begun an answer and told of it."""
        begun, now = Response(response_id, foreign=True), self._response
        if now is not None and now.foreign and (now.since_ms is not None or now.broken_off):
            self._next.append(begun)
        else:
            self._response = begun

    def forget(self, response_id: str) -> None:
        """Learn that an answer which the model has begun is cancelled; if it waits to be heard, it never will be."""
        self._next = deque(response for response in self._next if response.id != response_id)

    def cut(self) -> None:
        """Tell that the client has stopped the answer."""
        if self._response is not None:
            self._response.cut = True
        self.end("cancelled", reason="client_cancelled")

    def end(self, status: Status, *, reason: str | None = None, error: str | None = None) -> None:
        """Tell that the answer is over, unless it was told already."""
        response = self._response
        if response is None or response.done:
            return
        response.done = True
        output = []
        if response.item is not None:
            part = {"type": "audio", "transcript": "".join(response.words)}
            where = self._part(response)
            self._tell({"type": "response.output_audio.done", **where})
            self._tell({"type": "response.output_audio_transcript.done", **where, "transcript": part["transcript"]})
            self._tell({"type": "response.content_part.done", **where, "part": part})
            item = self._message(response, "completed" if status == "completed" else "incomplete")
            output = [item]
            self._tell({"type": "response.output_item.done", **_item_in(response), "item": item})
            self._tell({"type": "conversation.item.done", "previous_item_id": None, "item": item})
        details = {"type": status, "reason": reason, "error": {"type": "server_error", "message": error}}
        if error is None:
            del details["error"]
        done = self._resource(response, status)
        done |= {"output": output, "status_details": None if status == "completed" else details}
        self._tell({"type": "response.done", "response": done})

    def _begin(self) -> Response:
        if self._response is None or (self._response.done and not self._response.foreign):
            self._response = Response(f"resp_{uuid.uuid4().hex[:20]}")
            self._tell({"type": "response.created", "response": self._resource(self._response, "in_progress")})
        return self._response

    def _give_up(self) -> None:
        """Tell that nothing more of the answer will be heard: there will be another."""
        self.end("cancelled", reason="turn_detected")  # if it came of itself, and the user spoke instead
        response = self._response
        if response is not None and response.broken_off and response.item is not None:
            response.broken_off = False
            self._next.clear()
            end = {"content_index": 0, "audio_end_ms": round(response.heard_ms)}
            self._tell({"type": "conversation.item.truncated", "item_id": response.item, **end})

    def _audible(self, at_ms: float | None) -> None:
        response = self._response if self._response is not None and self._response.broken_off else self._begin()
        self._part(response)
        response.since_ms, response.broken_off = at_ms, False
        self._tell({"type": "output_audio_buffer.started", "response_id": response.id})

    def _message_begins(self, response: Response) -> None:
        where = self._part(response)
        item = self._message(response, "in_progress")
        self._tell({"type": "response.output_item.added", **_item_in(response), "item": {**item, "content": []}})
        added = {"previous_item_id": self._last_item, "item": {**item, "content": []}}
        self._tell({"type": "conversation.item.added", **added})
        self._tell({"type": "response.content_part.added", **where, "part": {"type": "audio", "transcript": ""}})
        self._last_item = response.item

    def _silent(self, reason: str, at_ms: float | None) -> None:
        response = self._response
        if response is None:
            return
        if response.since_ms is not None and at_ms is not None:
            response.heard_ms += at_ms - response.since_ms
        response.since_ms = None
        if reason == "completed" and not response.cut:
            self.end("completed")
            self._tell({"type": "output_audio_buffer.stopped", "response_id": response.id})
            if self._next:
                self._response = self._next.popleft()
            return
        self._tell({"type": "output_audio_buffer.cleared", "response_id": response.id})
        self.end("cancelled", reason="turn_detected")
        response.broken_off = response.cut or reason == "yielded"
        if response.cut:
            self._give_up()  # else it may be gone on with
        elif reason != "yielded" and self._next:
            self._response = self._next.popleft()

    def _commit(self, turn_id: int, *, added: bool) -> None:
        if turn_id <= self._committed and not added:
            return
        self._committed = max(turn_id, self._committed)
        item_id = self._user_items.pop(turn_id, None) or f"item_{uuid.uuid4().hex[:20]}"
        self._tell({"type": "input_audio_buffer.committed", "previous_item_id": self._last_item, "item_id": item_id})
        audio = [{"type": "input_audio", "transcript": None}]
        self.item(
            {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
            | {"content": audio}
        )

    def _user_item(self, turn_id: int) -> str:
        if turn_id not in self._user_items:
            self._user_items = {turn_id: f"item_{uuid.uuid4().hex[:20]}"}
        return self._user_items[turn_id]

    def _part(self, response: Response) -> dict[str, Any]:
        if response.item is None:
            response.item = f"item_{uuid.uuid4().hex[:20]}"
            self._message_begins(response)
        return {**_item_in(response), "item_id": response.item, "content_index": 0}

    def _message(self, response: Response, status: str) -> dict[str, Any]:
        content = [{"type": "output_audio", "transcript": "".join(response.words)}]
        named = {"id": response.item, "object": "realtime.item", "type": "message", "status": status}
        return {**named, "role": "assistant", "content": content}

    def _resource(self, response: Response, status: str) -> dict[str, Any]:
        return {
            "object": "realtime.response",
            "id": response.id,
            "status": status,
            "status_details": None,
            "output": [],
            "conversation_id": self._conversation,
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": {"output": {"format": _PCM, "voice": None}},
            "usage": None,
            "metadata": None,
        }


def default_session(call_id: str, model: str) -> dict[str, Any]:
    """Return the session of a call as `session.created` shows it."""
    detection = {"type": "server_vad", "create_response": True, "interrupt_response": True}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": f"sess_{call_id}",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "audio": {
            "input": {"format": _PCM, "transcription": None, "noise_reduction": None, "turn_detection": detection},
            "output": {"format": _PCM, "voice": "alloy", "speed": 1.0},
        },
    }


def _item_in(response: Response) -> dict[str, Any]:
    return {"response_id": response.id, "output_index": 0}
