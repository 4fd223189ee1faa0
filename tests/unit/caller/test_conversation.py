"""Conversations on a running microphone, with an agent whose loudness the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from relay.caller.conversation import Conversation
from relay.caller.microphone import Microphone
from relay.caller.phrasebook import Phrasebook
from relay.caller.records import Answer, Utterance
from relay.caller.script import Backchannel, BargeIn, HangUp, Pause, Say, Script, WaitForAnswer

SHORT = "backchannel_yeah"
PATIENCE_S = 10


class Talk:
    """A conversation; `agent_speaks` is asked at every frame."""

    def __init__(self) -> None:
        self.agent_speaks: Callable[[], bool] = lambda: False
        self.said: list[Utterance] = []
        self.heard: list[Answer] = []
        self.microphone = Microphone(self._tick)
        self.conversation = Conversation(
            self.microphone, Phrasebook(), np.random.default_rng(1), self.said.append, self.heard.append
        )

    def _tick(self, _due: int, _now: int, wall: int) -> None:
        self.conversation.played(wall, np.full(8, self.agent_speaks()))

    async def fetch(self) -> None:
        while True:
            await self.microphone.next_frame()

    async def run(self, *steps: object, seconds: float = 60.0) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.conversation.run(Script("test", steps), seconds)  # type: ignore[arg-type]


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    made = Talk()
    fetching = asyncio.create_task(made.fetch())
    yield made
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)


async def test_hanging_up_ends_it(talk: Talk) -> None:
    await talk.run(Say(SHORT), Pause(40), HangUp())
    assert [utterance.clip for utterance in talk.said] == [SHORT]
    assert talk.said[0].kind == "normal"


@pytest.mark.parametrize(
    ("steps", "loop", "finished"),
    [
        ((Say(SHORT), HangUp()), False, True),
        ((Pause(40),), False, True),
        ((Pause(40), Say(SHORT), HangUp()), False, False),
        ((Pause(40), Say(SHORT)), True, True),
    ],
    ids=["hangs up", "runs out", "no time left to speak", "loops"],
)
async def test_a_script_that_the_time_did_not_suffice_for_says_so(
    talk: Talk, steps: tuple[object, ...], loop: bool, finished: bool
) -> None:
    seconds = 10.0 if isinstance(steps[0], Say) else 0.5
    await talk.conversation.run(Script("test", steps, loop), seconds)  # type: ignore[arg-type]
    assert talk.conversation.finished is finished


async def test_nothing_is_said_that_nobody_could_answer(talk: Talk) -> None:
    await talk.run(Say(SHORT), seconds=0.2)
    assert talk.microphone.utterances == []


async def test_an_answer_is_waited_for_to_its_end(talk: Talk) -> None:
    talk.agent_speaks = lambda: len(talk.said) == 1 and not talk.heard
    await talk.run(Say(SHORT), WaitForAnswer(), HangUp())
    [answer] = talk.conversation.answers
    assert (answer.kind, answer.utterance, answer.user_end_ns) == ("normal", 0, talk.said[0].end_ns)
    assert answer.heard_end_ns is not None
    assert answer.heard_end_ns > answer.heard_start_ns > talk.said[0].end_ns
    assert talk.heard == [answer, answer]


async def test_no_answer_is_waited_for_only_so_long(talk: Talk) -> None:
    await talk.run(Say(SHORT), WaitForAnswer(timeout_ms=60), Say(SHORT), HangUp())
    assert len(talk.said) == 2
    assert talk.heard == []


async def test_an_agent_that_speaks_while_the_caller_does_cuts_in(talk: Talk) -> None:
    talk.agent_speaks = lambda: talk.microphone.speaking
    await talk.run(Say(SHORT), HangUp())
    [answer] = talk.conversation.answers
    assert answer.kind == "cut-in"
    talk.conversation.finish()
    assert answer.user_end_ns is None


@pytest.mark.parametrize(("step", "kind"), [(BargeIn, "barge-in"), (Backchannel, "backchannel")])
async def test_breaking_in_waits_until_so_much_was_heard(talk: Talk, step: type[BargeIn], kind: str) -> None:
    talk.agent_speaks = lambda: bool(talk.said)
    await talk.run(Say(SHORT), step(after_ms=100, say=SHORT), HangUp())
    first, second = talk.said
    assert (first.kind, second.kind) == ("normal", kind)
    [answer] = talk.conversation.answers
    assert second.start_ns - answer.heard_start_ns >= 80_000_000  # the step acts on frames of 20 ms


async def test_breaking_in_on_nobody_is_given_up(talk: Talk) -> None:
    await talk.run(Say(SHORT), BargeIn(after_ms=100, say=SHORT, timeout_ms=60), HangUp())
    assert len(talk.said) == 1
