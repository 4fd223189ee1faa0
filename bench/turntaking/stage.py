"""A floor that hears an utterance in virtual time: no sockets, no clock, no thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from bench.turntaking.material import Utterance
from voice.endpointing import Heard, Prediction
from voice.floor import Floor, FloorConfig
from voice.turns import PredictEnd, RequestResponse, TurnEvent
from voice.vad import FRAME_SAMPLES, SAMPLE_RATE

FRAME_MS: Final = 20.0
AUDIO_FRAMES: Final = 8 * SAMPLE_RATE // FRAME_SAMPLES
_MS: Final = 1_000_000

Ask = Callable[[Utterance, int], float | None]
"""The probability that the turn is over, as a predictor sees it after a number of frames."""


class Outcome(NamedTuple):
    """What became of an utterance.

    Attributes:
        decided_ms: each time the turn was held to be over.
        requested_ms: each time an answer was asked for, in advance or not.
        stops_ms: the acoustic ends, as the floor dated them.

    """

    decided_ms: list[float]
    requested_ms: list[float]
    stops_ms: list[float]


def hear(
    utterance: Utterance,
    speech: list[bool],
    config: FloorConfig,
    ask: Ask | None = None,
    compute_ms: float = 0.0,
    *,
    anew: Callable[[Utterance, int], bool] | None = None,
) -> Outcome:
    """Let a floor with these settings hear an utterance that a detector judged so.

    A predictor takes its time. It is asked again when `anew` says that there is something new to tell by.
    """
    floor = Floor(config, "bench")
    out = Outcome([], [], [])
    answers: list[tuple[float, Prediction]] = []
    for index, voiced in enumerate(speech):
        now_ms = (index + 1) * FRAME_MS
        got = floor.user_frame(round(now_ms * _MS), round((now_ms - FRAME_MS) * _MS), now_ms - FRAME_MS, voiced)
        while answers and answers[0][0] <= now_ms:
            at_ms, prediction = answers.pop(0)
            got += floor.predicted(round(at_ms * _MS), prediction)
        question = floor.endpointer.asked
        if ask is not None and anew is not None and question is not None and anew(utterance, index + 1):
            answers.append((now_ms + compute_ms, Prediction(question, ask(utterance, index + 1), "bench", compute_ms)))
        for output in got:
            if isinstance(output, PredictEnd) and ask is not None:
                prediction = Prediction(output.question, ask(utterance, index + 1), "bench", compute_ms)
                answers.append((now_ms + compute_ms, prediction))
            elif isinstance(output, RequestResponse):
                out.requested_ms.append(now_ms)
            elif isinstance(output, TurnEvent) and output.kind == "endpoint_decided":
                out.decided_ms.append(now_ms)
            elif isinstance(output, TurnEvent) and output.kind == "user_speech_stopped":
                out.stops_ms.append(output.at_ns / _MS)
    return out


def audio_until(utterance: Utterance, frames: int) -> Heard:
    """What a predictor of voices hears after a number of frames."""
    return Heard(audio=np.concatenate(utterance.frames[max(0, frames - AUDIO_FRAMES) : frames]))


def text_is_new(utterance: Utterance, frames: int, lag_ms: float) -> bool:
    """Whether the last frame brought words."""
    return text_until(utterance, frames, lag_ms) != text_until(utterance, frames - 1, lag_ms)


def text_until(utterance: Utterance, frames: int, lag_ms: float) -> Heard:
    """What a predictor of words reads after a number of frames, if recognition lags by so much."""
    known = [
        text
        for text, (_, end_ms) in zip(utterance.texts, utterance.spans_ms, strict=True)
        if end_ms + lag_ms <= frames * FRAME_MS
    ]
    return Heard(text=known[-1] if known else None)
