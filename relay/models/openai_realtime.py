"""A model behind OpenAI's Realtime API, or anything that speaks its protocol, over one WebSocket per call.

The floor machine decides here as for every model: the server is told never to answer or to stop by itself
(`create_response`, `interrupt_response`), also where its own detector (`server_vad`, `semantic_vad`) tells when the
user's turn is over. So what a user hears of one model and of another is measured at the same places.

`openai_link` keeps the connection, `openai_session` says what the server is told, `openai_answer` what it answers.
"""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import structlog

from relay.models.openai_answer import Answer
from relay.models.openai_link import Endpoint, Link
from relay.models.openai_session import OpenAIConfig, control_of, sanitised, session_of
from relay.models.protocol import FRAME_MS, Event, Model, ModelError, ModelOutput, Pcm
from relay.models.resample import Halver
from voice.floor_config import Control

LEAD_FRAMES: Final = 15
"""300 ms from before the first frame of speech, as the server's own detector keeps them (`prefix_padding_ms`)."""

TAIL_FRAMES: Final = 50
"""A second after the last frame of speech; what follows is not said to anybody."""

COMMIT_MS_MIN: Final = 100
"""The server refuses to commit less."""

OPEN_S: Final = 5.0
FREE_S: Final = 2.0
"""Given to an earlier response to be over after it was cancelled."""

RATE_WAIT_MAX_S: Final = 5.0
ATTEMPTS: Final = 3
ANSWERS_KEPT: Final = 8
ITEMS_KEPT: Final = 64
PAUSE_FRAMES: Final = 10
"""200 ms without speech: what was said may be a whole turn."""

METADATA: Final = "sidetone_answer"
APPEND: Final = "input_audio_buffer.append"
EMPTY: Final = "input_audio_buffer_commit_empty"
BUSY: Final = "conversation_already_has_active_response"
NOT_ACTIVE: Final = "response_cancel_not_active"
OURS: Final = "sidetone_"
"""How the ids of the events begin that are ours and not the application's."""

COMMIT: Final = f"{OURS}commit"
SESSION: Final = f"{OURS}session"

_REMOTE_DONE: Final = ("response.mcp_call.completed", "response.mcp_call.failed")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Heard:
    """What of the user's voice went to the server, or waits to, and is in no item of the conversation yet.

    Attributes:
        lead: the last frames that were not sent.
        quiet: frames since speech.
        uncommitted_ms: how much was sent.
        speech: whether there was speech in it.
        commits: that we asked for and the server has not confirmed.

    """

    lead: deque[Pcm] = field(default_factory=lambda: deque(maxlen=LEAD_FRAMES))
    quiet: int = TAIL_FRAMES
    uncommitted_ms: int = 0
    speech: bool = False
    commits: int = 0


class OpenAIRealtimeModel(Model):
    """One call's conversation with the API.

    Args:
        config: which model, and how.
        key: bearer token; None for a server that wants none.
        wishes: session fields that the application asked for.

    """

    name = "openai_realtime"

    def __init__(self, config: OpenAIConfig, key: str | None, wishes: Mapping[str, Any] | None = None) -> None:
        self._own = config.turn_detection == "own"
        self._detector = config.turn_detection
        told = ("session.", "response.", "conversation.", "rate_limits.", "error")
        buffer = ("input_audio_buffer.committed", "input_audio_buffer.cleared") if self._own else ("input_audio_",)
        self.own_events = (*told, *buffer)
        self.counts: Counter[str] = Counter()
        self._settings = session_of(config, {})
        self._session = session_of(config, wishes or {})
        self._control = control_of(wishes or {}, Control())
        self._link = Link(Endpoint(config.full_url, key), self._opened, self._received, self._lost)
        self._halver = Halver()
        self._voice = _Heard()
        self._answer: Answer | None = None
        self._unasked: deque[Answer] = deque()  # that came unasked, and wait to be said
        self._answers: dict[str, Answer] = {}
        self._numbers = 0
        self._active: set[str] = set()
        self._free = asyncio.Event()
        self._free.set()
        self._words: dict[str, str] = {}
        self._unanswered: deque[str] = deque(maxlen=ITEMS_KEPT)  # the user's items of a turn that is not answered yet
        self._answered: deque[str] = deque(maxlen=ITEMS_KEPT)  # and of those that are
        self._not_before_s = 0.0
        self._greeted = False

    # The user's voice.

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        """Send the frame on; with our own endpointing only speech and what is around it.

        An application that says itself where a turn is in what is heard gets all of it.
        """
        if self._link.state == "idle":
            self._link.start()
        half = self._halver(pcm)
        voice = self._voice
        voice.speech |= speech
        if not self._own or not self._control.turn_detection:
            return self._append(half)
        voice.quiet = 0 if speech else voice.quiet + 1
        if voice.quiet > TAIL_FRAMES:
            return voice.lead.append(half)
        while voice.lead:
            self._append(voice.lead.popleft())
        return self._append(half)

    def _append(self, half: Pcm) -> None:
        self._voice.uncommitted_ms += FRAME_MS
        audio = base64.b64encode(half.astype("<i2").tobytes()).decode()
        self._link.send({"type": APPEND, "audio": audio})

    def _commit(self) -> None:
        """Make an item of what the user said, without which an answer would not be one to it."""
        voice = self._voice
        missing_ms = COMMIT_MS_MIN - voice.uncommitted_ms
        if missing_ms > 0:
            self._append(np.zeros(24 * missing_ms, np.int16))
        self._link.send({"type": "input_audio_buffer.commit", "event_id": COMMIT})
        self._committed()
        voice.commits += 1
        voice.quiet = TAIL_FRAMES

    def committed(self, turn_id: int) -> None:
        """Make an item of the turn, unless the server or the application has."""
        del turn_id
        if self._voice.speech:
            self._commit()

    def _committed(self) -> None:
        self._voice.uncommitted_ms, self._voice.speech = 0, False

    def _confirmed(self, item: str) -> None:
        """Learn that the server has made an item: because it was asked to, or because its own detector says so."""
        if self._voice.commits or self._own:
            self._voice.commits = max(0, self._voice.commits - 1)
            self._answered.append(item)  # of the turn that we ask about
            return
        self._unanswered.append(item)
        self._committed()
        self.listener.user_turn_ended(self._detector)

    # Answers.

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        """Ask for a response, or take the one that came unasked, and yield what it brings."""
        self._answered.extend(self._unanswered)
        self._unanswered.clear()
        answer = self._unasked.popleft() if self._unasked else None
        asked = answer is None
        if answer is None:
            answer = self._new_answer(turn_id)
            if self._own or self._voice.speech:  # else the server's detector was first
                self._commit()
        answer.turn_id = turn_id
        self._answer = answer
        try:
            if asked:
                await self._ask(answer)
            async for output in answer.outputs():
                yield output
        finally:
            self._drop(answer)

    async def _ask(self, answer: Answer) -> None:
        if self._link.state != "open" and not await self._link.opened(OPEN_S):
            raise ModelError(f"the model cannot be asked: {self._link.problem or 'no connection yet'}")
        wait_s = self._not_before_s - time.monotonic()
        if wait_s > RATE_WAIT_MAX_S:
            raise ModelError(f"the model's rate limit is used up; it resets in {wait_s:.0f} s")
        await asyncio.sleep(max(0.0, wait_s))
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(FREE_S):
                    await self._free.wait()
            except TimeoutError:
                self.counts["not_free"] += 1
            self._link.send(
                {"type": "response.create", "event_id": answer.key, "response": {"metadata": {METADATA: answer.key}}}
            )
            answer.asked = True
            if await answer.accepted():
                return
            self._free.clear()
        raise ModelError("the model is still busy with an earlier answer")

    def _new_answer(self, turn_id: int) -> Answer:
        self._numbers += 1
        answer = Answer(f"{OURS}{self._numbers}", turn_id)
        self._answers[answer.key] = answer
        while len(self._answers) > ANSWERS_KEPT:
            del self._answers[next(iter(self._answers))]
        return answer

    def _drop(self, answer: Answer) -> None:
        """Nobody reads this answer any more."""
        if self._answer is answer:
            self._answer = None
        if not answer.over:
            answer.over = True
            if answer.response_id in self._active:
                self._cancel(answer.response_id)

    def _cancel(self, response_id: str | None) -> None:
        self._link.send({"type": "response.cancel", "event_id": f"{OURS}cancel", "response_id": response_id})

    def interrupted(self, turn_id: int, heard_ms: float) -> None:
        """Take back from the conversation what was not heard, and all that was to be said after it."""
        while self._unasked:
            unsaid = self._unasked.popleft()
            self._drop(unsaid)
            self._cut(unsaid, 0.0)
        for answer in reversed(self._answers.values()):
            if answer.turn_id == turn_id and answer.heard_ms is None:
                self._drop(answer)
                self._cut(answer, heard_ms)
                return

    def _cut(self, answer: Answer, heard_ms: float) -> None:
        for event in answer.cut(heard_ms):
            self._link.send({**event, "event_id": f"{OURS}cut"})

    # What the server says.

    def _opened(self, again: bool) -> list[Event]:
        if again:
            self._active.clear()
            self._free.set()
            self._voice.uncommitted_ms = FRAME_MS * self._link.waiting(APPEND)
            self._voice.commits = self._link.waiting("input_audio_buffer.commit")
            # A new session knows nothing of what was said; the API has no way to take one up again.
            self.listener.note("reconnected", context="lost")
        return [self._session_update()]

    def _session_update(self) -> Event:
        return {"type": "session.update", "event_id": SESSION, "session": self._session}

    def _lost(self, problem: str) -> None:
        for answer in (self._answer, *self._unasked):
            if answer is not None and (answer.asked or self._link.state == "failed"):
                answer.fail(f"the answer was lost: {problem}")
        self.counts["lost"] += 1
        self.listener.note("connection_lost", problem=problem)
        if self._link.state == "failed":
            _log.error("a call has no voice model any more", problem=problem)
            error = {"type": "server_error", "code": None, "message": problem, "param": None, "event_id": None}
            self.listener.client_event({"type": "error", "event_id": "event_sidetone_model", "error": error})

    def _received(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind.startswith("response."):
            self._response_event(kind, event)
        elif kind.startswith("conversation.item.input_audio_transcription."):
            self._transcribed(kind, event)
        elif kind == "input_audio_buffer.committed":
            self._confirmed(str(event.get("item_id")))
        elif kind == "rate_limits.updated":
            self._limited(event)
        elif kind == "error":
            self._problem(event["error"])
            cause = str(event["error"].get("event_id"))
            if cause.startswith(OURS) and cause != SESSION:
                return  # not the application's
        elif kind == "session.created":
            if self._greeted:
                return
            self._greeted = True
        if kind != "response.output_audio.delta":  # comes to the client as media
            self.listener.client_event(event)

    def _response_event(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "response.created":
            return self._created(event["response"])
        if kind in _REMOTE_DONE and self._answer is not None:
            self._answer.tool_answered(str(event["item_id"]))
        # The events of a remote tool's call do not say of which response it is.
        response_id = event["response"]["id"] if kind == "response.done" else event.get("response_id")
        answer = next((one for one in self._answers.values() if response_id and one.response_id == response_id), None)
        if answer is not None:
            answer.take(kind, event)
        if kind == "response.done":
            self._active.discard(response_id)
            if not self._active:
                self._free.set()
            if answer is not None and answer.heard_ms is not None:
                self._cut(answer, answer.heard_ms)  # items that came after it
        return None

    def _created(self, response: dict[str, Any]) -> None:
        if response.get("conversation_id", "") is None:
            return  # out of band: the application's own business
        response_id = str(response["id"])
        self._active.add(response_id)
        self._free.clear()
        answer = self._answers.get((response.get("metadata") or {}).get(METADATA, ""))
        if answer is None and self._answer is not None and self._answer.waits:
            answer = self._answer  # goes on after a tool
        if answer is None:
            answer = self._new_answer(0)
            self._unasked.append(answer)
            answer.asked = True  # by the application, or the server itself wants to speak
            answer.begin(response_id)
            if not self.listener.speak("application"):
                self._unasked.pop()
                self._drop(answer)
            return
        answer.begin(response_id)
        if answer.over:
            self._cancel(response_id)

    def _transcribed(self, kind: str, event: dict[str, Any]) -> None:
        item = str(event["item_id"])
        answered = item in self._answered
        if kind.endswith(".delta"):
            self._words = {item: self._words.get(item, "") + str(event.get("delta") or "")}
            self.listener.user_partial(self._words[item], final=False, answered=answered)
        elif kind.endswith(".completed"):
            self._words.pop(item, None)
            self.listener.user_partial(str(event["transcript"]), final=True, answered=answered)

    def _limited(self, event: dict[str, Any]) -> None:
        for limit in event["rate_limits"]:
            if limit.get("remaining") == 0 and limit.get("name") == "requests":
                reset_s = float(limit.get("reset_seconds") or 0)
                if not 0 <= reset_s < math.inf:
                    raise ValueError("a limit that resets at no time")
                self.counts["rate_limited"] += 1
                self._not_before_s = time.monotonic() + reset_s

    def _problem(self, error: dict[str, Any]) -> None:
        code, message = error.get("code"), str(error.get("message"))[:500]
        if code == NOT_ACTIVE and error.get("event_id") == f"{OURS}cancel":
            return  # it was done in the very moment that we cancelled it
        if error.get("event_id") == COMMIT or code == EMPTY:  # most likely the server's detector was first after all
            self._voice.commits = max(0, self._voice.commits - 1)
        self.counts["errors"] += 1
        _log.warning("the voice model reports an error", code=code, message=message)
        if error.get("event_id") == SESSION:
            self.listener.note("session_refused", problem=message)
            if self._session != self._settings:  # better without what the application wishes than without what is ours
                self._session = self._settings
                self._link.send(self._session_update())
        answer = self._answers.get(str(error.get("event_id")))
        if answer is not None:
            answer.refuse(None if code == BUSY else message)

    # What the client says.

    def client_event(self, event: Event) -> None:
        """Hand on the client's event; settings that the media path rests on stay ours."""
        if event["type"] == "session.update" and isinstance(event.get("session"), dict):
            self._control = control_of(event["session"], self._control)
            update = sanitised(event["session"], own_endpointing=self._own)
            self._session = session_of(self._session, update)
            event = {**event, "session": update}
        self._buffer_event(event["type"])
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") == "function_call_output" and self._answer is not None:
            self._answer.tool_answered(str(item.get("call_id")))
        self._link.send(event)

    def _buffer_event(self, kind: str) -> None:
        voice = self._voice
        if kind in ("input_audio_buffer.commit", "input_audio_buffer.clear"):
            self._committed()
            voice.commits += kind == "input_audio_buffer.commit"
        paused = self._own and self._control.turn_detection and voice.speech and voice.quiet >= PAUSE_FRAMES
        if kind == "response.create" and paused and not self._control.answers:
            self._commit()  # an application that asks at once when the user pauses wants an answer to what was said

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()
        self.counts.update(self._link.counts)
