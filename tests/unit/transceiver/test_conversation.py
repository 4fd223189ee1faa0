"""A conversation tick by tick: the floor, a model of the test's, and packets of the length that the sender wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest

from relay.models import FRAME_SAMPLES, Audio, Event, Model, ModelError, ModelOutput, Pcm, Transcript
from relay.transceiver import conversation as module
from relay.transceiver.conversation import RETIRING_MAX, Conversation
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.predictions import EndPredictions
from relay.transceiver.realtime import RealtimeEvents
from relay.transceiver.receive import Heard
from relay.transceiver.send import AgentVoice
from tests.unit.transceiver.facts_list import FactList
from voice.floor import Floor, FloorConfig, State
from voice.sender import SenderSettings

TICK_NS = 20_000_000
TONE = (8_000 * np.sin(np.arange(FRAME_SAMPLES) * 2 * np.pi * 200 / 48_000)).astype(np.int16)
SILENCE = np.zeros(FRAME_SAMPLES, np.int16)


class Talker(Model):
    """Says so many frames of a tone, then whatever it is told to do."""

    name = "talker"

    def __init__(
        self, frames: int = 500, *, error: str | None = None, thinks: bool = False, stubborn: bool = False
    ) -> None:
        self.frames, self.error, self.thinks, self.stubborn = frames, error, thinks, stubborn
        self.closed = False
        self.released = asyncio.Event()

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        del turn_id
        yield Transcript("well ")
        for _ in range(self.frames):
            yield Audio(TONE)
        try:
            if self.error:
                raise ModelError(self.error)
            if self.thinks or self.stubborn:
                await asyncio.Event().wait()
        finally:
            if self.stubborn:
                await self.released.wait()

    async def aclose(self) -> None:
        self.closed = True


class Call:
    """A call without its network."""

    def __init__(
        self,
        model: Talker,
        floor: FloorConfig | None = None,
        ptime_ms: int = 20,
        predictions: EndPredictions | None = None,
    ) -> None:
        self.floor = Floor(floor or FloorConfig(), "test")
        self.agent = AgentVoice(111, None, settings=SenderSettings(32_000, True, 5, ptime_ms), voiced_dbov=-55.0)
        self.facts = FactList()
        self.told: list[Event] = []
        realtime = RealtimeEvents("call-1", model, self.told.append, {})
        facts = SessionFacts(self.facts, bytes(16), "test")
        self.counters = Counters()
        self.conversation = Conversation(
            self.floor,
            model,
            facts,
            self.counters,
            realtime.turn,
            self.agent.is_voiced,
            realtime,
            predictions=predictions,
        )
        realtime.control(self.conversation)
        self.client = realtime
        self.now_ns = 1_760_000_000_000_000_000
        self.ticks = 0

    async def tick(self, *, speech: bool) -> None:
        pcm = TONE if speech else SILENCE
        self.conversation.heard(Heard(pcm, "played", speech, self.now_ns, self.ticks * 20.0))
        packet = self.agent.packet(self.conversation.next_frame()[0])
        self.conversation.sent(self.now_ns, voiced=packet is not None and packet.voiced)
        self.now_ns += TICK_NS
        self.ticks += 1
        for _ in range(5):
            await asyncio.sleep(0)  # the model's turn

    async def until(self, state: State, *, speech: bool = False) -> None:
        for _ in range(500):
            if self.floor.state is state:
                return
            await self.tick(speech=speech)
        raise AssertionError(f"the floor is {self.floor.state}, not {state}")

    async def asked(self) -> None:
        """Let the user ask something."""
        for _ in range(20):
            await self.tick(speech=True)

    def turns(self, *kinds: str) -> list[tuple[str, str | None]]:
        return [(row["kind"], row["reason"]) for row in self.facts.rows["turn"] if row["kind"] in kinds]

    def types(self) -> list[str]:
        return [event["type"] for event in self.told]


@pytest.mark.parametrize("ptime_ms", [20, 40, 60])
@pytest.mark.parametrize("before", [20, 21, 22])
async def test_agent_that_paused_in_the_middle_of_a_packet_is_heard_again(ptime_ms: int, before: int) -> None:
    call = Call(Talker(), ptime_ms=ptime_ms)
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    for _ in range(before):
        await call.tick(speech=False)
    await call.until(State.HOLDING, speech=True)
    await call.until(State.AGENT_SPEAKING)
    assert call.turns("agent_audio_started", "agent_audio_stopped", "agent_resumed") == [
        ("agent_audio_started", None),
        ("agent_audio_stopped", "yielded"),
        ("agent_resumed", "backchannel"),
    ]
    await call.conversation.aclose()


async def test_call_ends_whatever_its_model_hangs_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETIRE_S", 0.01)
    model = Talker(10, stubborn=True)
    call = Call(model, FloorConfig(speculate_ms=200.0, endpoint_silence_ms=10_000.0))
    for _ in range(RETIRING_MAX + 1):
        await call.asked()
        await call.until(State.SPECULATING)
        await call.tick(speech=False)
    try:
        await call.conversation.aclose()
    finally:
        model.released.set()
    assert model.closed


async def test_answer_that_fails_before_it_is_heard_is_written_down() -> None:
    call = Call(Talker(0, error="the key is not taken"))
    await call.asked()
    await call.until(State.RESPONDING)
    await call.until(State.LISTENING)
    notes: list[Any] = [row["payload"] for row in call.facts.rows["input"] if row["kind"] == "model"]
    assert len(notes) == 1
    assert b"answer_failed" in notes[0]
    assert b"the key is not taken" in notes[0]


@pytest.mark.parametrize("kind", ["response.cancel", "output_audio_buffer.clear"])
async def test_answer_that_the_client_stops_is_told_as_cancelled(kind: str) -> None:
    call = Call(Talker())
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    call.client.received({"type": kind})
    (done,) = [event["response"] for event in call.told if event["type"] == "response.done"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert call.types().count("output_audio_buffer.cleared") == 1
    assert "output_audio_buffer.stopped" not in call.types()
    await call.conversation.aclose()


async def test_answer_that_the_client_stops_unheard_is_over_for_it() -> None:
    call = Call(Talker(0, thinks=True))
    await call.asked()
    await call.until(State.RESPONDING)
    call.client.received({"type": "response.cancel"})
    assert [event["response"]["status"] for event in call.told if event["type"] == "response.done"] == ["cancelled"]
    assert not any(kind.startswith("output_audio_buffer") for kind in call.types())
    await call.asked()
    await call.until(State.RESPONDING)
    created = [event["response"]["id"] for event in call.told if event["type"] == "response.created"]
    assert len(set(created)) == 2
    await call.conversation.aclose()


class Greeter(Talker):
    """Thinks before it speaks, and keeps what it is told of interruptions."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()
        self.cut: list[tuple[int, float]] = []

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        await self.ready.wait()
        async for output in super().respond(turn_id):
            yield output

    def interrupted(self, turn_id: int, heard_ms: float) -> None:
        self.cut.append((turn_id, heard_ms))


async def test_greeting_that_the_user_does_not_wait_for_is_told_to_the_model_as_unheard() -> None:
    model = Greeter()
    call = Call(model)
    assert call.conversation.speak()
    await call.asked()
    await call.until(State.RESPONDING)
    assert model.cut == [(0, 0.0)]
    told = [event["response"] for event in call.told if event["type"] in ("response.created", "response.done")]
    assert [response["status"] for response in told] == ["in_progress", "cancelled", "in_progress"]
    assert told[0]["id"] == told[1]["id"] != told[2]["id"]
    await call.conversation.aclose()


async def test_greeting_that_begins_over_the_user_is_told_to_the_model_as_cut_off() -> None:
    model = Greeter()
    call = Call(model)
    assert call.conversation.speak()
    await call.asked()
    model.ready.set()
    for _ in range(60):
        await call.tick(speech=True)
    await call.until(State.RESPONDING)
    ((turn_id, heard_ms),) = model.cut
    assert turn_id == 0
    assert 0 < heard_ms < 1_000
    await call.conversation.aclose()


async def test_application_is_told_what_was_heard_of_an_answer_that_was_broken_in_on() -> None:
    call = Call(Talker())
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    for _ in range(20):
        await call.tick(speech=False)
    await call.until(State.HOLDING, speech=True)
    await call.until(State.AGENT_SPEAKING)  # a word of encouragement; the agent goes on
    assert "conversation.item.truncated" not in call.types()
    for _ in range(10):
        await call.tick(speech=False)
    for _ in range(75):  # the user takes the floor
        await call.tick(speech=True)
    await call.until(State.AGENT_SPEAKING)
    buffers = [kind for kind in call.types() if kind.startswith("output_audio_buffer.")]
    assert buffers == [
        f"output_audio_buffer.{what}" for what in ("started", "cleared", "started", "cleared", "started")
    ]
    at = [row["audio_ms"] for row in call.facts.rows["turn"] if row["kind"].startswith("agent_audio_st")]
    at += [row["audio_ms"] for row in call.facts.rows["turn"] if row["kind"] == "agent_resumed"]
    started, paused, stopped, _, resumed = at
    truncated = next(event for event in call.told if event["type"] == "conversation.item.truncated")
    spoken = next(event["item"] for event in call.told if event.get("item", {}).get("role") == "assistant")
    assert truncated["item_id"] == spoken["id"]
    assert truncated["audio_end_ms"] == paused - started + stopped - resumed
    assert call.types().index("conversation.item.truncated") < len(call.told) - 1 - call.types()[::-1].index(
        "response.created"
    )
    await call.conversation.aclose()


@pytest.mark.parametrize("kind", ["response.cancel", "output_audio_buffer.clear"])
async def test_answer_that_the_application_stops_is_truncated_at_once(kind: str) -> None:
    call = Call(Talker())
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    for _ in range(20):
        await call.tick(speech=False)
    call.client.received({"type": kind})
    assert call.types()[-1] == "conversation.item.truncated"
    started, stopped = (r["audio_ms"] for r in call.facts.rows["turn"] if r["kind"].startswith("agent_audio_st"))
    assert call.told[-1]["audio_end_ms"] == stopped - started
    await call.conversation.aclose()


@pytest.mark.parametrize("kind", ["response.cancel", "output_audio_buffer.clear"])
async def test_short_turn_after_the_client_stopped_a_paused_agent_is_answered(kind: str) -> None:
    """Applications do so whenever the user begins to speak."""
    call = Call(Talker())
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.HOLDING, speech=True)
    call.client.received({"type": kind})
    await call.until(State.RESPONDING)
    assert call.turns("endpoint_decided", "backchannel", "agent_resumed") == [("endpoint_decided", None)] * 2
    await call.conversation.aclose()


class Deaf(Talker):
    """Fails at whatever is said to it."""

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        raise ZeroDivisionError(f"no samples of {pcm.size}, {speech}")


async def test_model_that_cannot_hear_keeps_its_call_and_is_told_of_once() -> None:
    call = Call(Deaf(5))
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    (note,) = [row["payload"] for row in call.facts.rows["input"] if row["kind"] == "model"]
    assert b"hear_failed" in note
    assert b"ZeroDivisionError: no samples of 960" in note
    assert call.counters.deaf_frames == call.ticks
    await call.conversation.aclose()


class Breaking(Talker):
    """Says half of it and breaks when it is told to."""

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        del turn_id
        for _ in range(self.frames):
            yield Audio(TONE)
        await self.released.wait()
        raise ModelError("the connection broke")


async def test_short_turn_while_the_rest_of_the_answer_fails_is_answered() -> None:
    model = Breaking(5)
    call = Call(model)
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.HOLDING, speech=True)  # all that there was has been heard, and more is to come
    model.released.set()
    await call.until(State.RESPONDING)
    assert call.turns("endpoint_decided", "backchannel") == [("endpoint_decided", None)] * 2
    await call.conversation.aclose()


SPECULATIVE = FloorConfig(speculate_ms=200.0, endpoint_silence_ms=600.0)


async def test_every_answer_asked_for_in_advance_is_counted_as_used_or_dropped() -> None:
    used, revoked = Call(Talker(), SPECULATIVE), Call(Talker(), SPECULATIVE)
    failed, ended = Call(Talker(0, error="no answer"), SPECULATIVE), Call(Talker(), SPECULATIVE)
    for call in (used, revoked, failed, ended):
        await call.asked()
        await call.until(State.SPECULATING)
    await used.until(State.AGENT_SPEAKING)
    await revoked.until(State.USER_SPEAKING, speech=True)
    await failed.until(State.ENDPOINTING)
    for call in (used, revoked, failed, ended):
        await call.conversation.aclose()
    assert used.counters.speculations == {"asked": 1, "used": 1}
    for call in (revoked, failed, ended):
        assert call.counters.speculations == {"asked": 1, "dropped": 1}


async def test_call_ends_though_its_model_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETIRE_S", 0.01)
    never = asyncio.Event()
    model = Talker()
    monkeypatch.setattr(model, "aclose", never.wait)
    async with asyncio.timeout(5):
        await Call(model).conversation.aclose()


async def test_what_a_model_fails_of_while_it_closes_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise OSError("no route")

    model = Talker()
    monkeypatch.setattr(model, "aclose", fail)
    with pytest.raises(OSError, match="no route"):
        await Call(model).conversation.aclose()
