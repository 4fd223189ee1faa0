"""One call's conversation: the floor machine decides, the model answers, and what was said becomes facts.

Everything here happens in a tick of the clock, except the model's own events and a predictor's answers; all come from
the one event loop, so the order of facts is the order in which things happened.

An answer may be made and not be heard: one that was asked for in advance, until the turn is decided to be over; and the
rest of one that the user interrupted, until it is clear whether the user wanted the floor.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final, Protocol

import structlog

from relay.models import FRAME_MS, Event, Pcm, ToolEnded, ToolStarted, Transcript, VoiceModel
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.floorclock import FloorClock
from relay.transceiver.predictions import EndPredictions
from relay.transceiver.receive import Heard
from relay.transceiver.reply import Reply
from voice.endpointing import Prediction
from voice.floor import Control, Floor, ModelKind, State
from voice.transcript import claims_floor
from voice.turns import (
    CommitTurn,
    FloorOutput,
    PauseAgent,
    PredictEnd,
    ReleaseResponse,
    RequestResponse,
    ResumeAgent,
    StopAgent,
    TurnEvent,
)

OnTurn = Callable[[TurnEvent], None]


class ClientSide(Protocol):
    """Who speaks with the client about the model."""

    def model_event(self, event: Event) -> None:
        """Send an event of the model's to the client."""

    def said(self, output: Transcript | ToolStarted | ToolEnded) -> None:
        """Learn what the answer brings beside its audio."""

    def ended(self, error: str | None) -> None:
        """Learn that an answer came to its end, or ended because of an error."""

    def cut(self) -> None:
        """Learn that an answer was given up because the client wanted it."""


_USER_SILENT: Final = frozenset({State.LISTENING, State.RESPONDING, State.AGENT_SPEAKING, State.RESUMING})

_WORDS_DONE: Final = frozenset({"endpoint_decided", "agent_audio_started", "backchannel"})
"""After these, the user's words so far say nothing of the next silence; if the turn goes on, new ones come."""

RETIRING_MAX: Final = 4
"""Answers that were cut off and whose model has not let go yet; a model that hangs on to more is called broken."""

RETIRE_S: Final = 2.0
"""Given to a model at a call's end to let go of its answers, and then to close."""

_log = structlog.get_logger(__name__)


class Conversation:
    """Lets the floor machine and the model talk to each other.

    Args:
        floor: the turn-taking machine of this call.
        model: who answers.
        facts: where turns are written down.
        counters: of the transceiver.
        on_turn: told of every turn fact, for the client.
        is_voiced: tells voice from silence in the agent's audio.
        client: tells the client of the model.
        predictions: this call's predictor of ends, if it has one.

    """

    def __init__(
        self,
        floor: Floor,
        model: VoiceModel,
        facts: SessionFacts,
        counters: Counters,
        on_turn: OnTurn,
        is_voiced: Callable[[Pcm], bool],
        client: ClientSide,
        *,
        predictions: EndPredictions | None = None,
    ) -> None:
        self._floor = floor
        self._model = model
        self._facts = facts
        self._counters = counters
        self._predictions = predictions
        self._on_turn = on_turn
        self._is_voiced = is_voiced
        self._reply: Reply | None = None
        self._queued: list[str] = []  # who wants what the model says next, as soon as the present answer has been said
        self._retiring: set[asyncio.Task[None]] = set()
        self._playing = False  # the answer there is may be heard
        self._in_advance = False  # it was asked for before its turn was decided to be over
        self._audible = False
        self._closed = False
        self._deaf = False  # the model has failed to hear, which is told once
        self._out_ms = 0.0
        self._clock = FloorClock()
        self._client = client
        model.attach(self)

    def heard(self, frame: Heard) -> None:
        """Take the user's next 20 ms."""
        self._let_hear(frame)
        if self._predictions is not None:
            self._predictions.hear(frame.pcm)
        now_ns = self._clock.now_ns()
        at_ns = min(now_ns, frame.at_ns - self._clock.set_ns)
        self._apply(self._floor.user_frame(now_ns, at_ns, frame.audio_ms, frame.speech, frame.probability))

    def _let_hear(self, frame: Heard) -> None:
        try:
            self._model.hear(frame.pcm, speech=frame.speech)
        except Exception as error:  # noqa: BLE001 - a model is foreign code; its deafness costs answers, not the call
            self._counters.deaf_frames += 1
            if not self._deaf:
                self._deaf = True
                _log.exception("a voice model cannot hear", model=self._model.name)
                self.note("hear_failed", problem=f"{type(error).__name__}: {error}")

    def next_frame(self) -> tuple[Pcm | None, bool]:
        """Return the agent's next 20 ms, None for silence, and whether voice was due and none was ready."""
        if self._reply is None:
            return None, False
        if not self._playing:
            if self._reply.finished:
                self._ended()  # it was asked for in advance and came to nothing, or nothing is left of one that paused
            return None, False
        pcm = self._reply.next_frame()
        starved = pcm is None and self._reply.played > 0 and not self._reply.complete
        if pcm is None and self._reply.finished:  # an answer without audio, or one that ended while nothing was ready
            self._ended()
        return pcm, starved

    def sent(self, sent_ns: int, *, voiced: bool) -> None:
        """Learn that the packet of the last `next_frame` has left at `sent_ns` (UTC)."""
        # A packet of several frames may hold the last of an answer that has been stopped since.
        if voiced and self._playing and self._reply is not None and self._reply.played and not self._audible:
            self._audible = True
            self._apply(self._floor.agent_started(sent_ns - self._clock.set_ns, self._out_ms))
        self._out_ms += FRAME_MS
        if self._playing and self._reply is not None and self._reply.finished:
            self._ended()

    def skip(self, ticks: int) -> None:
        """Let ticks pass that were given up."""
        self._out_ms += ticks * FRAME_MS

    # Called by the model.

    def user_partial(self, text: str, *, final: bool, answered: bool = False) -> None:
        """Go by the user's words so far; keep them, of a call that consented."""
        # Words while the user is silent are late ones, too.
        current = not answered and self._floor.state not in _USER_SILENT
        if current and claims_floor(text):
            self._apply(self._floor.floor_claimed(self._clock.now_ns()))
        if current and self._predictions is not None:
            self._predictions.read(text)
            question = self._floor.endpointer.asked
            if question is not None and self._predictions.by_words:
                self._ask(question)
        if final and self._facts.consented:
            self._facts.input("user_text", {"text": text})

    def user_turn_ended(self, reason: str) -> None:
        """Learn that the model holds the user's turn to be over; whether that ends it is a setting."""
        self._apply(self._floor.turn_ended(self._clock.now_ns(), reason))

    def speak(self, reason: str = "model") -> bool:
        """Let the agent speak because the model or the application wants it, unless somebody has the floor.

        A model that has made its answer, of which the rest is being said, may have another one said after it.
        """
        if self._reply is not None and self._reply.complete and self._playing:
            self._queued.append(reason)
            return True
        outputs = self._floor.ask(self._clock.now_ns(), reason) if self._reply is None else []
        self._apply(outputs)
        return bool(outputs)

    def client_event(self, event: Event) -> None:
        """Hand on what the model wants to tell the client."""
        self._client.model_event(event)

    def note(self, what: str, **details: object) -> None:
        """Write down what the model says of itself."""
        self._facts.input("model", {"what": what, **details})

    # Called for the client.

    def leave(self, control: Control) -> None:
        """Leave to the application what it wants to do itself."""
        if control != self._floor.control:
            self._facts.input("application", {"what": "control", **asdict(control)})
            self._floor.control = control

    def commit(self) -> None:
        """Take the application's word that the user's turn is over."""
        self._facts.input("application", {"what": "commit"})
        self._apply(self._floor.commit(self._clock.now_ns()))

    def answer(self) -> bool:
        """Let the agent answer because the application asks for it; False if somebody has the floor."""
        return self._reply is None and self.speak("application")

    def cut(self) -> bool:
        """Stop what the agent says because the client wants it, and return whether it said anything."""
        if self._reply is None:
            return False
        self._model.interrupted(self._reply.turn_id, self._reply.played_ms)
        self._client.cut()
        self._drop_reply()
        self._apply(self._floor.agent_stopped(self._clock.now_ns(), self._out_ms, "completed"))
        return True

    def _model_said(self, output: Transcript | ToolStarted | ToolEnded) -> None:
        self._client.said(output)
        if isinstance(output, ToolStarted):
            self._model_event("tool_started")
        elif isinstance(output, ToolEnded):
            self._model_event("tool_ended")
        elif self._facts.consented:
            self._facts.input("agent_text", {"text": output.text})

    async def aclose(self) -> None:
        """End what is being said and let the model go: the call is over."""
        self._closed = True
        self._apply(self._floor.hangup(self._clock.now_ns()))
        reply = self._let_go()
        if reply is not None and not reply.complete:
            self._retire(reply)
        if self._retiring:
            _, hanging = await asyncio.wait(self._retiring, timeout=RETIRE_S)
            if hanging:
                _log.error("a voice model does not stop when it is cancelled", model=self._model.name)
        closing = asyncio.get_running_loop().create_task(self._model.aclose(), name="close model")
        await asyncio.wait([closing], timeout=RETIRE_S)
        if closing.done():
            closing.result()
        else:
            closing.cancel()
            _log.error("a voice model does not close", model=self._model.name)

    def _apply(self, outputs: list[FloorOutput]) -> None:
        for output in outputs:
            if isinstance(output, TurnEvent):
                self._record(output)
            elif isinstance(output, PredictEnd):
                self._ask(output.question)
            elif isinstance(output, RequestResponse):
                self._request(output.turn_id, speculative=output.speculative)
            elif isinstance(output, CommitTurn):
                self._model.committed(output.turn_id)
            elif isinstance(output, ReleaseResponse):
                self._counters.speculations["used"] += 1
                self._playing, self._in_advance = True, False
            elif isinstance(output, PauseAgent):
                self._pause()
            elif isinstance(output, ResumeAgent):
                self._resume()
            elif isinstance(output, StopAgent):
                self._stop(output)

    def _ask(self, question: int) -> None:
        if self._predictions is not None and not self._predictions.ask(question, self._predicted):
            self._counters.predictions["refused"] += 1

    def _predicted(self, prediction: Prediction) -> None:
        if self._closed:
            return
        late = self._floor.endpointer.late
        outputs = self._floor.predicted(self._clock.now_ns(), prediction)
        in_time = self._floor.endpointer.late == late
        self._counters.predictions["in_time" if in_time else "late"] += 1
        self._facts.input("prediction", {**asdict(prediction), "late": not in_time})
        self._apply(outputs)

    def _request(self, turn_id: int, *, speculative: bool) -> None:
        if self._reply is not None:  # it was to be said unasked, and the user spoke instead
            self._model.interrupted(self._reply.turn_id, self._reply.played_ms)
        self._drop_reply()
        self._playing, self._in_advance = not speculative, speculative
        if speculative:
            self._counters.speculations["asked"] += 1
        self._reply = Reply(turn_id, self._model.respond(turn_id), self._model_event, self._is_voiced, self._model_said)
        self._model_event("response_requested")

    def _model_event(self, kind: ModelKind) -> None:
        self._apply(self._floor.model_event(self._clock.now_ns(), kind))

    def _pause(self) -> None:
        """Fall silent and keep the rest. The last voiced packet left with an earlier tick; nothing more follows."""
        reply = self._reply
        self._playing = self._audible = False
        rest = reply is not None and not reply.finished
        if not rest:
            if self._queued and reply is not None:
                self._model.interrupted(reply.turn_id, reply.played_ms)
            self._drop_reply()
        self._apply(self._floor.agent_stopped(self._clock.now_ns(), self._out_ms, "yielded" if rest else "completed"))

    def _resume(self) -> None:
        self._playing = True
        if self._reply is None:
            self._ended()

    def _stop(self, output: StopAgent) -> None:
        if self._reply is None or self._reply.turn_id != output.turn_id:
            return
        self._model.interrupted(output.turn_id, self._reply.played_ms)
        self._drop_reply()

    def _ended(self) -> None:
        """The answer was said to its end, or there is no more of it."""
        reply = self._reply
        error = reply.error if reply is not None else None
        if error and reply is not None:
            _log.warning("a voice model's answer ended early", model=self._model.name, error=error)
            self.note("answer_failed", turn_id=reply.turn_id, heard_ms=reply.played_ms, problem=error)
        self._client.ended(error)
        queued = self._queued
        self._drop_reply()
        self._apply(self._floor.agent_stopped(self._clock.now_ns(), self._out_ms, "error" if error else "completed"))
        if queued and reply is not None:
            if self.speak(queued[0]):
                self._queued = queued[1:]
            else:  # the user has begun to speak
                self._model.interrupted(reply.turn_id, reply.played_ms)

    def _drop_reply(self) -> None:
        reply = self._let_go()
        if reply is not None and not reply.complete:
            self._retire(reply)
            if len(self._retiring) > RETIRING_MAX:
                raise RuntimeError(f"voice model {self._model.name} does not stop answering when it is cancelled")

    def _let_go(self) -> Reply | None:
        reply, self._reply = self._reply, None
        self._queued = []
        if self._in_advance:
            self._counters.speculations["dropped"] += 1
        self._playing = self._audible = self._in_advance = False
        return reply

    def _retire(self, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(reply.stop(), name=f"stop reply {reply.turn_id}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _record(self, event: TurnEvent) -> None:
        if self._clock.set_ns:
            event = replace(event, at_ns=event.at_ns + self._clock.set_ns)
        self._facts.turn(
            time.time_ns(),
            mono_ns=time.monotonic_ns(),
            turn_id=event.turn_id,
            kind=event.kind,
            actor=event.actor,
            at_ns=event.at_ns,
            audio_ms=event.audio_ms,
            reason=event.reason,
            detector=event.detector,
            probability=event.probability,
            threshold=event.threshold,
            silence_ms=event.silence_ms,
            inputs=json.dumps(event.inputs, sort_keys=True) if event.inputs else None,
        )
        self._on_turn(event)
        if event.kind in _WORDS_DONE and self._predictions is not None:
            self._predictions.forget()
