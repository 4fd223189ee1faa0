"""One call's conversation: the floor machine decides, the model answers, and what was said becomes facts.

Everything here happens in a tick of the clock, except the model's own events; both come from the one event loop, so the
order of facts is the order in which things happened.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Final

import structlog

from relay.models import FRAME_MS, Pcm, VoiceModel
from relay.transceiver.facts import SessionFacts
from relay.transceiver.receive import Heard
from relay.transceiver.reply import Reply
from voice.floor import Floor, ModelKind
from voice.turns import FloorOutput, RequestResponse, StopAgent, TurnEvent

OnTurn = Callable[[TurnEvent], None]

RETIRING_MAX: Final = 4
"""Answers that were cut off and whose model has not let go yet; a model that hangs on to more is called broken."""

RETIRE_S: Final = 2.0
"""Given to a model at a call's end to let go of its answers."""

_log = structlog.get_logger(__name__)


class Conversation:
    """Lets the floor machine and the model talk to each other.

    Args:
        floor: the turn-taking machine of this call.
        model: who answers.
        facts: where turns are written down.
        on_turn: told of every turn fact, for the client.
        is_voiced: tells voice from silence in the agent's audio.

    """

    def __init__(
        self,
        floor: Floor,
        model: VoiceModel,
        facts: SessionFacts,
        on_turn: OnTurn,
        is_voiced: Callable[[Pcm], bool],
    ) -> None:
        self._floor = floor
        self._model = model
        self._facts = facts
        self._on_turn = on_turn
        self._is_voiced = is_voiced
        self._reply: Reply | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._audible = False
        self._out_ms = 0.0

    def heard(self, frame: Heard) -> None:
        """Take the user's next 20 ms."""
        self._model.hear(frame.pcm, speech=frame.speech)
        self._apply(self._floor.user_frame(time.time_ns(), frame.at_ns, frame.audio_ms, frame.speech))

    def next_frame(self) -> tuple[Pcm | None, bool]:
        """Return the agent's next 20 ms, None for silence, and whether voice was due and none was ready."""
        if self._reply is None:
            return None, False
        pcm = self._reply.next_frame()
        starved = pcm is None and self._reply.played > 0 and not self._reply.complete
        if pcm is None and self._reply.finished:  # an answer without audio, or one that ended while nothing was ready
            self._ended()
        return pcm, starved

    def sent(self, sent_ns: int, *, voiced: bool) -> None:
        """Learn that the packet of the last `next_frame` has left at `sent_ns` (UTC)."""
        if voiced and self._reply is not None and not self._audible:
            self._audible = True
            self._apply(self._floor.agent_started(sent_ns, self._out_ms))
        self._out_ms += FRAME_MS
        if self._reply is not None and self._reply.finished:
            self._ended()

    def skip(self, ticks: int) -> None:
        """Let ticks pass that were given up."""
        self._out_ms += ticks * FRAME_MS

    async def aclose(self) -> None:
        """End what is being said and let the model go: the call is over."""
        self._apply(self._floor.hangup(time.time_ns()))
        reply, self._reply = self._reply, None
        if reply is not None and not reply.complete:
            self._retire(reply)
        if self._retiring:
            _, hanging = await asyncio.wait(self._retiring, timeout=RETIRE_S)
            if hanging:
                _log.error("a voice model does not stop when it is cancelled", model=self._model.name)
        await self._model.aclose()

    def _apply(self, outputs: list[FloorOutput]) -> None:
        for output in outputs:
            if isinstance(output, TurnEvent):
                self._record(output)
            elif isinstance(output, RequestResponse):
                self._request(output.turn_id)
            elif isinstance(output, StopAgent):
                self._stop(output)

    def _request(self, turn_id: int) -> None:
        self._drop_reply()
        self._reply = Reply(turn_id, self._model.respond(turn_id), self._model_event, self._is_voiced)
        self._model_event("response_requested")

    def _model_event(self, kind: ModelKind) -> None:
        self._apply(self._floor.model_event(time.time_ns(), kind))

    def _stop(self, output: StopAgent) -> None:
        if self._reply is None or self._reply.turn_id != output.turn_id:
            return
        self._model.interrupted(output.turn_id, self._reply.played_ms)
        self._drop_reply()
        if output.reason == "yielded":
            # The last voiced packet left with an earlier tick; nothing more follows.
            self._apply(self._floor.agent_stopped(time.time_ns(), self._out_ms, "yielded"))

    def _ended(self) -> None:
        """The answer was said to its end, or there is no more of it."""
        error = self._reply.error if self._reply is not None else None
        if error:
            _log.warning("a voice model's answer ended early", model=self._model.name, error=error)
        self._drop_reply()
        self._apply(self._floor.agent_stopped(time.time_ns(), self._out_ms, "error" if error else "completed"))

    def _drop_reply(self) -> None:
        reply, self._reply = self._reply, None
        self._audible = False
        if reply is not None and not reply.complete:
            self._retire(reply)

    def _retire(self, reply: Reply) -> None:
        if len(self._retiring) >= RETIRING_MAX:
            raise RuntimeError(f"voice model {self._model.name} does not stop answering when it is cancelled")
        task = asyncio.get_running_loop().create_task(reply.stop(), name=f"stop reply {reply.turn_id}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _record(self, event: TurnEvent) -> None:
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
