"""Asks the predictor off the audio path: one thread and one bounded queue for all calls of a transceiver."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from relay.models import FRAME_MS, Pcm
from relay.predictors.features import SECONDS
from relay.transceiver.decimate import Decimator
from voice.endpointing import Heard, Prediction, Predictor

QUEUE_MAX: Final = 16
"""Questions that wait; more are refused, for their answers would come too late anyway."""

STALE_S: Final = 0.5
"""A question that waited this long is answered with "cannot tell": by then the plain silence has decided."""

FRAMES: Final = SECONDS * 1000 // FRAME_MS

Answer = Callable[[Prediction], None]

_log = structlog.get_logger(__name__)


class _Question(NamedTuple):
    number: int
    frames: Sequence[Pcm]
    asked_s: float
    loop: asyncio.AbstractEventLoop
    answer: Answer


class PredictorWorker:
    """The thread. A predictor of texts is asked without it: that takes microseconds."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._questions: queue.Queue[_Question | None] = queue.Queue(QUEUE_MAX)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        if self.predictor.wants == "audio":
            self._thread = threading.Thread(target=self._run, name="predictor", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; what still waits is not answered."""
        if self._thread is not None:
            while not self._questions.empty():
                try:
                    self._questions.get_nowait()
                except queue.Empty:
                    break
            self._questions.put(None)
            self._thread.join()
            self._thread = None

    def put(self, number: int, frames: Sequence[Pcm], answer: Answer) -> bool:
        """Ask about the last frames (48 kHz, 20 ms each) from the running loop; False if too many questions wait."""
        try:
            self._questions.put_nowait(_Question(number, frames, time.monotonic(), asyncio.get_running_loop(), answer))
        except queue.Full:
            return False
        return True

    def ask(self, heard: Heard) -> float | None:
        """Ask the predictor, which must cost no turn: one that fails cannot tell."""
        try:
            return self.predictor.predict(heard)
        except Exception:  # noqa: BLE001 - whatever it fails of, silences decide without it
            _log.exception("a predictor of ends failed", predictor=self.predictor.name)
            return None

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            began_s = time.monotonic()
            probability = None
            if began_s - question.asked_s < STALE_S:
                probability = self.ask(Heard(audio=_to_16_khz(question.frames)))
            took_ms = (time.monotonic() - began_s) * 1000
            prediction = Prediction(question.number, probability, self.predictor.name, took_ms)
            if not question.loop.is_closed():
                question.loop.call_soon_threadsafe(question.answer, prediction)


class EndPredictions:
    """One call's way to the predictor: keeps what it may look at."""

    def __init__(self, worker: PredictorWorker) -> None:
        self._worker = worker
        self._audio = worker.predictor.wants == "audio"
        self.by_words = not self._audio
        """Whether it goes by words, so that new ones are worth a new question."""
        self._frames: deque[Pcm] = deque(maxlen=FRAMES)
        self._text: str | None = None

    def hear(self, pcm: Pcm) -> None:
        """Keep the user's next 20 ms."""
        if self._audio:
            self._frames.append(pcm)

    def read(self, text: str) -> None:
        """Take the words of the user's turn so far."""
        self._text = text

    def forget(self) -> None:
        """Begin a new turn: the words so far belong to the one before."""
        self._text = None

    def ask(self, number: int, answer: Answer) -> bool:
        """Have `answer` called with the predictor's answer, soon; False if it is too busy."""
        if self._audio:
            return self._worker.put(number, tuple(self._frames), answer)
        began_s = time.perf_counter()
        probability = self._worker.ask(Heard(text=self._text))
        took_ms = (time.perf_counter() - began_s) * 1000
        prediction = Prediction(number, probability, self._worker.predictor.name, took_ms)
        asyncio.get_running_loop().call_soon(answer, prediction)
        return True


def _to_16_khz(frames: Sequence[Pcm]) -> npt.NDArray[np.int16]:
    decimate = Decimator()
    return np.concatenate([decimate(frame) for frame in frames])
