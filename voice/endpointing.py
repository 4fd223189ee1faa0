"""How long a silence must last to end a turn: always the same, as a predictor sees it, or until the model says so.

A predictor is asked at the beginning of a silence, while the user may only be drawing breath. It answers with the
probability that the turn is over; until then, and if it never answers, the plain rule holds. An answer about a silence
that has ended meanwhile is late: it is counted and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from voice.floor_config import FloorConfig


class Heard(NamedTuple):
    """What a predictor may look at.

    Attributes:
        audio: the user's voice up to now, int16, 16 kHz mono, shape (samples,), the last 8 s at most.
        text: what a model has understood of the turn so far, if it listens and tells.

    """

    audio: npt.NDArray[np.int16] | None = None
    text: str | None = None


class Predictor(Protocol):
    """Says how likely it is that a user who has fallen silent has finished. Pure, and may take a while."""

    @property
    def name(self) -> str:
        """Predictor and version, as facts name it (`smart-turn:3.2`)."""

    @property
    def wants(self) -> Literal["audio", "text"]:
        """Which part of `Heard` it looks at."""

    @property
    def threshold(self) -> float:
        """Probability from which the turn counts as over."""

    def predict(self, heard: Heard) -> float | None:
        """Return the probability, 0 … 1, that the turn is over; None if there is nothing to tell it by."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predictor's answer.

    Attributes:
        question: the number of the question.
        probability: that the turn is over; None: it cannot tell.
        name: of the predictor.
        compute_ms: what it took to find.

    """

    question: int
    probability: float | None
    name: str
    compute_ms: float = 0.0


class Endpointer:
    """The rule for one speaker's silences."""

    def __init__(self, config: FloorConfig) -> None:
        self._config = config
        self.late = 0
        """Predictions that came too late to be of use."""
        self.prediction: Prediction | None = None
        """What was predicted for this silence."""
        self.reason: str | None = None
        """The listening model's reason to hold the turn for over, once it has said so."""
        self._question = 0
        self._asked = False

    def speech(self) -> None:
        """The user is speaking: what was thought about the silence before is void."""
        self.prediction = self.reason = None
        self._asked = False

    def question(self, silence_ms: float) -> int | None:
        """Return the number of the question that a predictor is to be asked now, if one is."""
        if self._config.endpointing != "predictor" or self._asked or silence_ms < self._config.predict_ms:
            return None
        self._asked = True
        self._question += 1
        return self._question

    @property
    def asked(self) -> int | None:
        """The question of this silence, once there is one."""
        return self._question if self._asked else None

    def predicted(self, prediction: Prediction) -> bool:
        """Take a predictor's answer; False if it is about a silence that is over."""
        if not self._asked or prediction.question != self._question:
            self.late += 1
            return False
        self.prediction = prediction
        return True

    def ended_by_model(self, reason: str) -> bool:
        """Learn that the listening model holds the turn for over; False if its word does not count."""
        if self._config.endpointing != "model":
            return False
        self.reason = reason
        return True

    @property
    def probability(self) -> float | None:
        """That the turn is over, as far as is known."""
        return None if self.prediction is None else self.prediction.probability

    @property
    def doubtful(self) -> bool:
        """Whether a predictor thinks that the user will go on."""
        return self.probability is not None and self.probability < self._config.threshold

    @property
    def wanted_ms(self) -> float:
        """The silence that would end the turn, as things stand."""
        if self._config.endpointing == "model":
            return 0.0 if self.reason is not None else self._config.unlikely_silence_ms
        if self.probability is None:
            return self._config.endpoint_silence_ms
        return self._config.unlikely_silence_ms if self.doubtful else self._config.likely_silence_ms

    def inputs(self) -> dict[str, Any]:
        """What the rule goes by, as JSON values."""
        found: dict[str, Any] = {"endpointing": self._config.endpointing, "endpoint_silence_ms": self.wanted_ms}
        if self.prediction is not None:
            found |= {"predictor": self.prediction.name, "compute_ms": round(self.prediction.compute_ms, 3)}
        if self.reason is not None:
            found["model_reason"] = self.reason
        return found
