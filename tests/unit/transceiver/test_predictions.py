"""Asking a predictor off the audio path."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import numpy as np
import pytest

from relay.models import FRAME_SAMPLES
from relay.transceiver.predictions import FRAMES, QUEUE_MAX, EndPredictions, PredictorWorker
from voice.endpointing import Heard, Prediction
from voice.transcript import TranscriptPredictor

FRAME = np.ones(FRAME_SAMPLES, np.int16)


class Slow:
    """Answers when it is let."""

    name = "slow"
    wants: Literal["audio"] = "audio"
    threshold = 0.5

    def __init__(self) -> None:
        self.go = threading.Event()
        self.heard: list[int] = []

    def predict(self, heard: Heard) -> float | None:
        self.go.wait()
        assert heard.audio is not None
        self.heard.append(heard.audio.size)
        return 0.7


async def test_questions_are_answered_in_order_with_the_last_eight_seconds() -> None:
    predictor = Slow()
    worker = PredictorWorker(predictor)
    worker.start()
    call = EndPredictions(worker)
    for _ in range(FRAMES + 10):
        call.hear(FRAME)
    answers: asyncio.Queue[Prediction] = asyncio.Queue()
    assert call.ask(1, answers.put_nowait)
    assert call.ask(2, answers.put_nowait)
    predictor.go.set()
    found = [await answers.get(), await answers.get()]
    assert [answer.question for answer in found] == [1, 2]
    assert (found[0].probability, found[0].name) == (0.7, "slow")
    assert predictor.heard[0] == 8 * 16_000
    worker.close()


async def test_more_questions_than_can_be_answered_are_refused() -> None:
    predictor = Slow()
    worker = PredictorWorker(predictor)  # not started: nothing is taken from the queue
    call = EndPredictions(worker)
    call.hear(FRAME)
    taken = [call.ask(number, lambda _answer: None) for number in range(QUEUE_MAX + 3)]
    assert taken == [True] * QUEUE_MAX + [False] * 3


async def test_words_are_judged_at_once_and_forgotten_with_their_turn() -> None:
    worker = PredictorWorker(TranscriptPredictor())
    worker.start()
    call = EndPredictions(worker)
    answers: asyncio.Queue[Prediction] = asyncio.Queue()
    call.read("I would like to")
    assert call.ask(1, answers.put_nowait)
    assert (await answers.get()).probability == 0.05
    call.forget()
    assert call.ask(2, answers.put_nowait)
    assert (await answers.get()).probability is None
    worker.close()


class Failing:
    """Fails at the first question."""

    name = "failing"
    threshold = 0.5

    def __init__(self, wants: Literal["audio", "text"]) -> None:
        self.wants: Literal["audio", "text"] = wants
        self.asked = 0

    def predict(self, heard: Heard) -> float | None:
        del heard
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("no memory left")
        return 0.7


@pytest.mark.parametrize("wants", ["audio", "text"])
async def test_predictor_that_fails_cannot_tell_and_is_asked_again(wants: Literal["audio", "text"]) -> None:
    worker = PredictorWorker(Failing(wants))
    worker.start()
    call = EndPredictions(worker)
    call.hear(FRAME)
    answers: asyncio.Queue[Prediction] = asyncio.Queue()
    async with asyncio.timeout(5):
        for number, probability in enumerate([None, 0.7]):
            assert call.ask(number, answers.put_nowait)
            assert (await answers.get()).probability == probability
    worker.close()
