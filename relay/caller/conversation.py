"""A caller's side of the talk: does the script's steps and keeps the record of what was heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.caller.listener import Heard, Listener
from relay.caller.microphone import FRAME_NS, Microphone
from relay.caller.phrasebook import Phrasebook
from relay.caller.records import Answer, Utterance
from relay.caller.script import (
    Backchannel,
    BargeIn,
    HangUp,
    Hesitate,
    Network,
    Pause,
    Say,
    Script,
    Speech,
    Step,
    TalkOver,
    WaitForAnswer,
)

PATIENCE_NS: Final = 2_500_000_000
"""An utterance begins only if that much of the call is left after it, so that it can be answered."""

NO_ANSWER: Final = frozenset({"backchannel", "hesitation"})
"""Kinds of utterances that want none."""

MOVES_MAX: Final = 100
"""Changes of network that a call keeps for later."""

_MS: Final = 1_000_000


class Conversation:
    """Runs one script on a microphone, listening with a `Listener`.

    Args:
        microphone: what the steps speak into.
        phrasebook: what they say.
        rng: chooses phrases and times.
        on_said: called with each utterance when it has ended.
        on_heard: called with each answer when its onset is heard, and again when it has ended.
        on_network: called with a step that changes the network, when its time has come.

    """

    def __init__(
        self,
        microphone: Microphone,
        phrasebook: Phrasebook,
        rng: np.random.Generator,
        on_said: Callable[[Utterance], None],
        on_heard: Callable[[Answer], None],
        on_network: Callable[[str], None] = lambda _profile: None,
    ) -> None:
        self._microphone = microphone
        self._phrasebook = phrasebook
        self._rng = rng
        self._on_said = on_said
        self._on_heard = on_heard
        self._on_network = on_network
        self._moves: list[tuple[int, str]] = []
        self._began_ns = 0
        self._listener = Listener()
        self._deadline_ns = 0
        self._now_ns = 0
        self._condition: tuple[Callable[[], bool], int, asyncio.Future[bool]] | None = None
        self.answers: list[Answer] = []
        """What was heard so far."""
        self.finished = False
        """Whether the script was done to its end; one that loops has none, and is finished from the start."""

    @property
    def agent_audible(self) -> bool:
        """Whether the agent is speaking now."""
        return self._listener.audible

    def played(self, wall_ns: int, loud: NDArray[np.bool_]) -> None:
        """Take a frame that begins to play at this wall-clock time; see `Listener.frame`."""
        self._now_ns = wall_ns
        while self._moves and self._moves[0][0] <= wall_ns:
            self._on_network(self._moves.pop(0)[1])
        for heard in self._listener.frame(wall_ns, loud):
            self._heard(heard)
        if self._condition is not None:
            holds, until_ns, waiter = self._condition
            if not waiter.done() and (holds() or wall_ns >= until_ns):
                waiter.set_result(holds())

    async def run(self, script: Script, seconds: float) -> None:
        """Do the script's steps; returns at a `HangUp` or when the time is over."""
        self._began_ns = self._now_ns = time.time_ns()
        if script.seed is not None:
            self._rng = np.random.default_rng(script.seed)
        self._deadline_ns = self._now_ns + round(seconds * 1e9)
        self.finished = script.loop
        talking = True
        while talking:
            for step in script.steps:
                if isinstance(step, HangUp):
                    self.finished = True
                    return
                if not await self._do(step):
                    talking = False
                    break
            else:
                self.finished = True
            talking = talking and script.loop
        await self._until(lambda: False, self._deadline_ns)

    def finish(self) -> None:
        """Settle the record after the last frame: the user's speech before each answer is known for certain now."""
        for answer in self.answers:
            answer.user_end_ns = self._user_end_ns(answer.heard_start_ns)

    async def _do(self, step: Step) -> bool:
        """Do one step; false if the call's time does not allow it."""
        match step:
            case Say():
                return await self._say(step.say, "normal")
            case Hesitate():
                said = await self._say(step.say, "hesitation")
                await self._pause(self._choose_ms(step.ms, step.to_ms))
                return said
            case Pause():
                await self._pause(self._choose_ms(step.ms, step.to_ms))
            case Network():
                self._move(step)
            case WaitForAnswer():
                await self._until(self._answered, self._now_ns + round(step.timeout_ms * _MS))
            case BargeIn() | Backchannel() | TalkOver():
                after_ns = self._choose_ms(step.after_ms, step.to_ms) * _MS
                if await self._until(lambda: self._audible_for(after_ns), self._now_ns + round(step.timeout_ms * _MS)):
                    return await self._break_in(step)
            case HangUp():
                return False
        return self._now_ns < self._deadline_ns

    async def _break_in(self, step: BargeIn | Backchannel | TalkOver) -> bool:
        if not isinstance(step, TalkOver):
            return await self._say(step.say, "backchannel" if isinstance(step, Backchannel) else "barge-in")
        until_ns = self._now_ns + round(step.for_ms * _MS)
        while await self._say(step.say, "talk-over"):
            if self._now_ns >= until_ns:
                return True
        return False

    async def _pause(self, ms: float) -> None:
        frames = min(ms * _MS, max(0, self._deadline_ns - self._now_ns)) // FRAME_NS
        await self._microphone.pause(int(frames))

    def _move(self, step: Network) -> None:
        if step.at_ms is None:
            self._on_network(step.profile)
        else:
            at_ns = self._began_ns + round(step.at_ms * _MS)
            self._moves = sorted([*self._moves, (at_ns, step.profile)])[:MOVES_MAX]

    async def _say(self, said: Speech, kind: str) -> bool:
        phrase = self._phrasebook.choose(said, self._rng)
        if self._now_ns + len(phrase.frames) * FRAME_NS + PATIENCE_NS > self._deadline_ns:
            return False
        self._on_said(await self._microphone.say(phrase, kind))
        if kind not in NO_ANSWER:
            self._listener.expect_new()
        return True

    async def _until(self, holds: Callable[[], bool], until_ns: int) -> bool:
        """Wait until a condition holds, looked at with every frame; false if time or the call ran out first."""
        if holds():
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._condition = (holds, min(until_ns, self._deadline_ns), waiter)
        try:
            return await waiter
        finally:
            self._condition = None

    def _answered(self) -> bool:
        last = self._last_utterance()
        if last is None or not self.answers or self._listener.audible:
            return False
        ended_ns = self.answers[-1].heard_end_ns
        return ended_ns is not None and ended_ns > last.end_ns

    def _audible_for(self, after_ns: float) -> bool:
        last = self._last_utterance()
        if last is None or not self.answers or not self._listener.audible:
            return False
        started_ns = self.answers[-1].heard_start_ns
        return started_ns > last.end_ns and self._now_ns - started_ns >= after_ns

    def _last_utterance(self) -> Utterance | None:
        """The last utterance that wants an answer."""
        return next((said for said in reversed(self._microphone.utterances) if said.kind not in NO_ANSWER), None)

    def _heard(self, heard: Heard) -> None:
        if not heard.started:
            self.answers[-1].heard_end_ns = heard.at_ns
            self._on_heard(self.answers[-1])
            return
        said = self._microphone.utterances
        follows = said[-1].kind if said else "normal"
        answer = Answer(
            heard_start_ns=heard.at_ns,
            heard_end_ns=None,
            kind="cut-in" if self._microphone.speaking else follows,
            utterance=len(said) - 1 if said else None,
            user_end_ns=self._user_end_ns(heard.at_ns),
        )
        self.answers.append(answer)
        self._on_heard(answer)

    def _user_end_ns(self, before_ns: int) -> int | None:
        """End of the last voiced span that ended before a time."""
        for utterance in reversed(self._microphone.utterances):
            for _, end_ns in reversed(utterance.spans):
                if end_ns <= before_ns:
                    return end_ns
        return None

    def _choose_ms(self, low: float, high: float | None) -> float:
        return low if high is None else float(self._rng.uniform(low, high))
