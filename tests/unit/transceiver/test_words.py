"""What a listening model understands, on its way to the predictor of ends."""

from __future__ import annotations

import json
from typing import Any

from relay.transceiver.predictions import EndPredictions, PredictorWorker
from tests.unit.transceiver.test_conversation import Call, Talker
from voice.floor import FloorConfig, State
from voice.transcript import TranscriptPredictor

CONFIG = FloorConfig(endpointing="predictor")


def predicted(call: Call) -> list[float | None]:
    rows: list[Any] = call.facts.rows["input"]
    return [json.loads(row["payload"])["probability"] for row in rows if row["kind"] == "prediction"]


def listening(model: Talker) -> Call:
    return Call(model, CONFIG, predictions=EndPredictions(PredictorWorker(TranscriptPredictor())))


async def test_words_of_a_turn_whose_answer_failed_say_nothing_of_the_next() -> None:
    call = listening(Talker(0, error="no answer"))
    await call.asked()
    call.conversation.user_partial("that is all", final=False)
    await call.until(State.RESPONDING)
    await call.until(State.LISTENING)
    await call.asked()
    await call.until(State.ENDPOINTING)
    assert predicted(call) == [0.7, None]
    await call.conversation.aclose()


async def test_words_of_a_backchannel_say_nothing_of_the_next_turn() -> None:
    call = listening(Talker(60))
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    for _ in range(7):
        await call.tick(speech=True)
    call.conversation.user_partial("okay", final=False)
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.LISTENING)
    await call.asked()
    await call.until(State.ENDPOINTING)
    assert predicted(call)[-1] is None
    await call.conversation.aclose()


async def test_words_of_a_turn_that_goes_on_are_judged_as_they_come() -> None:
    call = listening(Talker(0, thinks=True))
    await call.asked()
    call.conversation.user_partial("that is all", final=False)
    await call.until(State.RESPONDING)
    await call.asked()
    call.conversation.user_partial("that is all I wanted to", final=False)
    await call.until(State.ENDPOINTING)
    assert predicted(call)[-1] == 0.05
    await call.conversation.aclose()


async def test_late_words_of_the_turn_before_do_not_take_the_floor() -> None:
    call = listening(Talker(200))
    await call.asked()
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.BARGING_IN, speech=True)
    call.conversation.user_partial("I would like to book a table", final=True, answered=True)
    await call.until(State.AGENT_SPEAKING)
    assert call.turns("agent_yielded", "backchannel") == [("backchannel", None)]
    await call.until(State.BARGING_IN, speech=True)
    call.conversation.user_partial("no stop", final=False)
    await call.until(State.RESPONDING)
    assert call.turns("agent_yielded") == [("agent_yielded", "words")]
    await call.conversation.aclose()
