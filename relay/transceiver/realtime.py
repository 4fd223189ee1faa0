"""What a call looks like to an application written for OpenAI's Realtime API: events in, events out.

A model that speaks that protocol itself (`own_events`) tells its own story; of a call it cannot know what happens on
the media path, so `output_audio_buffer.*` always comes from here. For every other model the whole story is told from
the facts of the turns, under the same names and in the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from relay.models import Event, ToolEnded, ToolStarted, Transcript, VoiceModel
from relay.models.openai_session import DEPTH, control_of, merged
from relay.transceiver.story import Story, default_session
from voice.floor import Control
from voice.turns import TurnEvent

_IN_BY_MEDIA: Final = "input_audio_buffer.append"


class Controls(Protocol):
    """What a client may do with the conversation."""

    def leave(self, control: Control) -> None:
        """Leave to the client's application what it wants to do itself."""

    def commit(self) -> None:
        """Learn that the application holds the user's turn to be over."""

    def answer(self) -> bool:
        """Let the agent answer, or speak unasked; False if somebody has the floor."""

    def cut(self) -> bool:
        """Stop the agent; False if it says nothing."""


class RealtimeEvents:
    """The events of one call.

    Args:
        call_id: the session's id, from which those of events and items are made.
        model: who answers.
        send: sends an event to the client.
        session: what the application asked for at signalling.

    """

    def __init__(
        self, call_id: str, model: VoiceModel, send: Callable[[Event], None], session: Mapping[str, Any]
    ) -> None:
        self._model = model
        self._emit = send
        self._numbers = itertools.count(1)
        self._controls: Controls | None = None
        self._session = merged(default_session(call_id, model.name), session)
        self._control = control_of(session, Control())
        self._story = Story(call_id, self._tell)

    def control(self, controls: Controls) -> None:
        """Take what the client's events act upon, and tell the client that its session is there."""
        self._controls = controls
        controls.leave(self._control)
        self._tell({"type": "session.created", "session": self._session})

    # From the conversation.

    def turn(self, event: TurnEvent) -> None:
        """Tell what happened in the conversation; of its detector nothing to an application that wants none."""
        if self._control.turn_detection or not event.kind.startswith("user_speech_"):
            self._story.turn(event)

    def said(self, output: Transcript | ToolStarted | ToolEnded) -> None:
        """Tell the words of an answer."""
        if isinstance(output, Transcript):
            self._story.words(output.text)

    def ended(self, error: str | None) -> None:
        """Tell that an answer is over, or failed."""
        self._story.end("failed" if error else "completed", error=error)

    def cut(self) -> None:
        """Tell that an answer was stopped because the client asked for it."""
        self._story.cut()

    def model_event(self, event: Event) -> None:
        """Hand on an event of the model's."""
        response = event.get("response") if event.get("type") == "response.created" else None
        if isinstance(response, dict) and response.get("conversation_id", "") is not None:  # else it is not heard
            self._story.adopt(str(response.get("id")))
        done = event.get("response") if event.get("type") == "response.done" else None
        if isinstance(done, dict) and done.get("status") == "cancelled":
            self._story.forget(str(done.get("id")))
        self._emit(self._as_it_is(event) if event.get("type") in ("session.created", "session.updated") else event)

    def _as_it_is(self, event: Event) -> Event:
        """Return a session of the model's with the turn detection that this call has, whoever does it."""
        audio = (event.get("session") or {}).get("audio") or {}
        given = (audio.get("input") or {}).get("turn_detection")
        shown = {
            "type": "server_vad",
            **(given or {}),
            "create_response": self._control.create_response,
            "interrupt_response": self._control.interrupt_response,
        }
        detection = shown if self._control.turn_detection else None
        return merged(event, {"session": {"audio": {"input": {"turn_detection": detection}}}}, DEPTH + 1)

    # From the client.

    def received(self, event: dict[str, Any]) -> None:
        """Take an event of the client's."""
        kind = event["type"]
        if kind == _IN_BY_MEDIA:
            self.refuse("the user's voice comes as WebRTC media, not in events", event)
        elif kind == "output_audio_buffer.clear":
            if self._controls is not None:
                self._controls.cut()
        elif self._model.own_events:
            if kind == "session.update":
                self._leave(event.get("session"))
            elif kind == "input_audio_buffer.commit":
                self._commit(event)
            self._model.client_event(event)
        else:
            handler = _HANDLERS.get(kind)
            if handler is None:
                self.refuse(f"this model does not know events of type {kind[:100]!r}", event, code="unknown_event_type")
            else:
                handler(self, event)
                self._model.client_event(event)

    def refuse(self, message: str, event: Event | None = None, *, code: str = "invalid_value") -> None:
        """Tell the client that an event of its own was not taken, and why."""
        given = (event or {}).get("event_id")
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": None,
            "event_id": given if isinstance(given, str) else None,
        }
        self._emit({"type": "error", "event_id": self._event_id(), "error": error})

    def _update_session(self, event: dict[str, Any]) -> None:
        session = event.get("session")
        if not isinstance(session, dict) or session.get("type", "realtime") != "realtime":
            return self.refuse("a session here is an object of type `realtime`", event)
        self._session = merged(self._session, session)
        self._leave(session)
        return self._tell({"type": "session.updated", "session": self._session})

    def _leave(self, session: object) -> None:
        if isinstance(session, dict) and self._controls is not None:
            self._control = control_of(session, self._control)
            self._controls.leave(self._control)

    def _commit(self, _event: dict[str, Any]) -> None:
        if self._controls is not None:
            self._controls.commit()

    def _create_response(self, event: dict[str, Any]) -> None:
        if self._controls is None or not self._controls.answer():
            code = "conversation_already_has_active_response"
            self.refuse("somebody has the floor: the user speaks, or a response is active", event, code=code)

    def _cancel_response(self, event: dict[str, Any]) -> None:
        if self._controls is None or not self._controls.cut():
            self.refuse("there is no active response to cancel", event, code="response_cancel_not_active")

    def _create_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            return self.refuse("an item is an object with a `type`", event)
        return self._story.item({"object": "realtime.item", "status": "completed", **item})

    def _remove_item(self, event: dict[str, Any]) -> None:
        self._tell({"type": "conversation.item.deleted", "item_id": str(event.get("item_id", ""))})

    def _truncate_item(self, event: dict[str, Any]) -> None:
        numbers = [event.get(name) for name in ("content_index", "audio_end_ms")]
        if not isinstance(event.get("item_id"), str) or not all(isinstance(number, int) for number in numbers):
            return self.refuse("truncating needs item_id, content_index and audio_end_ms", event)
        told = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
        return self._tell({"type": "conversation.item.truncated", **told})

    def _clear_input(self, _event: dict[str, Any]) -> None:
        self._tell({"type": "input_audio_buffer.cleared"})

    def _tell(self, event: Event) -> None:
        if not event["type"].startswith(self._model.own_events):
            self._emit({"event_id": self._event_id(), **event})

    def _event_id(self) -> str:
        return f"event_sidetone_{next(self._numbers)}"


_HANDLERS: Final[dict[str, Callable[[RealtimeEvents, dict[str, Any]], None]]] = {
    "session.update": RealtimeEvents._update_session,  # noqa: SLF001 - the table of this class's own methods
    "response.create": RealtimeEvents._create_response,  # noqa: SLF001
    "response.cancel": RealtimeEvents._cancel_response,  # noqa: SLF001
    "conversation.item.create": RealtimeEvents._create_item,  # noqa: SLF001
    "conversation.item.delete": RealtimeEvents._remove_item,  # noqa: SLF001
    "conversation.item.truncate": RealtimeEvents._truncate_item,  # noqa: SLF001
    "input_audio_buffer.commit": RealtimeEvents._commit,  # noqa: SLF001
    "input_audio_buffer.clear": RealtimeEvents._clear_input,  # noqa: SLF001
}
