"""Applications that decide themselves when a turn is over, when it is answered, and whether the user interrupts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.transceiver.test_conversation import Call, Talker
from voice.floor import State

MANUAL = None
UNANSWERED = {"type": "server_vad", "create_response": False}
UNINTERRUPTED = {"type": "server_vad", "interrupt_response": False}


def agreed(call: Call, detection: dict[str, Any] | None) -> Call:
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    call.client.received({"type": "session.update", "session": session})
    return call


def inputs(call: Call, kind: str) -> list[dict[str, Any]]:
    rows: list[Any] = call.facts.rows["turn"]
    return [json.loads(row["inputs"]) for row in rows if row["kind"] == kind]


async def quiet(call: Call, ticks: int) -> None:
    for _ in range(ticks):
        await call.tick(speech=False)


@pytest.mark.parametrize("released", ["in speech", "in silence"])
async def test_turn_is_over_and_answered_when_the_button_is_let_go(released: str) -> None:
    call = agreed(Call(Talker(5)), MANUAL)
    for turn_id in (1, 2):
        call.client.received({"type": "input_audio_buffer.clear"})
        await call.asked()
        await quiet(call, 300)  # the user thinks, and nothing is decided
        await call.asked()
        if released == "in silence":
            await quiet(call, 20)
        assert call.turns("endpoint_decided") == [("endpoint_decided", "application")] * (turn_id - 1)
        call.client.received({"type": "input_audio_buffer.commit"})
        assert call.turns("response_requested") == [("response_requested", "application")] * (turn_id - 1)
        call.client.received({"type": "response.create"})
        await call.until(State.AGENT_SPEAKING)
        await call.until(State.LISTENING)
    turns: list[Any] = call.facts.rows["turn"]
    assert [row["turn_id"] for row in turns if row["kind"] == "agent_audio_started"] == [1, 2]
    assert [row["kind"] for row in turns if row["kind"].startswith("user_")] == [
        "user_speech_started",
        "user_speech_stopped",
    ] * 4
    assert {row["reason"] for row in turns if row["kind"] == "endpoint_candidate"} == {"application"}
    assert all(one["turn_detection"] is False for one in inputs(call, "endpoint_decided"))
    assert "input_audio_buffer.speech_started" not in call.types()
    assert call.types().count("input_audio_buffer.committed") == call.types().count("input_audio_buffer.cleared") == 2
    assert call.types().count("response.done") == 2
    told = [json.loads(row["payload"]) for row in call.facts.rows["input"] if row["kind"] == "application"]
    assert [one["what"] for one in told] == ["control", "commit", "commit"]
    await call.conversation.aclose()


@pytest.mark.parametrize("detection", [MANUAL, UNINTERRUPTED])
async def test_agent_goes_on_when_the_application_lets_nobody_interrupt(detection: dict[str, Any] | None) -> None:
    call = agreed(Call(Talker(100)), detection)
    await call.asked()
    if detection is MANUAL:
        call.client.received({"type": "input_audio_buffer.commit"})
        call.client.received({"type": "response.create"})
    await call.until(State.AGENT_SPEAKING)
    await quiet(call, 15)
    await call.until(State.OVERLAPPING, speech=True)
    await call.asked()
    await call.until(State.ENDPOINTING)
    assert call.turns("user_barged_in", "agent_yielded", "agent_audio_stopped", "backchannel") == [
        ("user_barged_in", "application"),
        ("agent_audio_stopped", "completed"),
    ]
    if detection is MANUAL:
        await quiet(call, 200)
        assert call.floor.state is State.ENDPOINTING
    else:
        await call.until(State.AGENT_SPEAKING)  # what was said over the agent is answered after it
        assert [row["turn_id"] for row in call.facts.rows["turn"] if row["kind"] == "agent_audio_started"] == [1, 2]
    await call.conversation.aclose()


async def test_answer_that_the_user_may_not_call_off_is_given_although_more_is_said() -> None:
    call = agreed(Call(Talker(0, thinks=True)), UNINTERRUPTED)
    await call.asked()
    await call.until(State.RESPONDING)
    await call.asked()
    await call.until(State.RESPONDING)
    assert call.turns("endpoint_revoked", "response_requested") == [("response_requested", None)]
    assert call.turns("endpoint_decided") == [("endpoint_decided", None)] * 2
    assert call.types().count("response.created") == 1
    await call.conversation.aclose()


async def test_turns_are_committed_and_answered_only_when_the_application_asks() -> None:
    call = agreed(Call(Talker(100)), UNANSWERED)
    for _ in range(2):
        await call.asked()
        await quiet(call, 100)
    assert call.turns("endpoint_decided", "response_requested") == [("endpoint_decided", None)] * 2
    committed = [event["item_id"] for event in call.told if event["type"] == "input_audio_buffer.committed"]
    started = [event["item_id"] for event in call.told if event["type"].endswith("speech_started")]
    assert committed == started
    assert len(set(committed)) == 2
    call.client.received({"type": "response.create"})
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.HOLDING, speech=True)  # who may interrupt does so
    await call.until(State.HOLDING, speech=True)
    for _ in range(50):
        await call.tick(speech=True)
    await call.until(State.LISTENING)
    assert call.turns("response_requested") == [("response_requested", "application")]
    assert call.types().count("input_audio_buffer.committed") == 3
    await call.conversation.aclose()


async def test_application_may_ask_as_soon_as_the_user_pauses() -> None:
    call = agreed(Call(Talker(100)), UNANSWERED)
    await call.asked()
    await call.until(State.ENDPOINTING)
    call.client.received({"type": "response.create", "event_id": "mine"})
    await call.until(State.AGENT_SPEAKING)
    assert call.turns("endpoint_decided", "response_requested") == [
        ("endpoint_decided", None),
        ("response_requested", "application"),
    ]
    call.client.received({"type": "response.create", "event_id": "second"})
    assert call.told[-1]["error"]["code"] == "conversation_already_has_active_response"
    await call.conversation.aclose()


async def test_session_that_takes_turns_again_answers_what_was_said() -> None:
    call = agreed(Call(Talker(100)), MANUAL)
    await call.asked()
    await quiet(call, 100)
    agreed(call, {"type": "server_vad"})
    await call.until(State.AGENT_SPEAKING)
    assert call.turns("endpoint_decided", "response_requested") == [
        ("endpoint_decided", None),
        ("response_requested", None),
    ]
    await call.conversation.aclose()
