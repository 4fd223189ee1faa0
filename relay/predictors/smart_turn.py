"""smart-turn: a network that hears from the last 8 s of a voice whether its turn is over."""

from __future__ import annotations

from typing import Literal

from relay.predictors import weights
from relay.predictors.features import log_mel
from voice.endpointing import Heard


class SmartTurn:
    """Daily's smart-turn 3.2, a part of Whisper's encoder with a classifier; some 70 ms of one core a question.

    Args:
        threshold: probability from which the turn counts as over; its authors use 0.5.

    Raises:
        WeightsError: its weights, or what runs them, are not installed.

    """

    name = "smart-turn:3.2"
    wants: Literal["audio"] = "audio"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self._session = weights.session(weights.SMART_TURN)

    def predict(self, heard: Heard) -> float | None:
        """Return the probability that the turn is over; None without audio."""
        if heard.audio is None or not heard.audio.size:
            return None
        (probabilities,) = self._session.run(None, {"input_features": log_mel(heard.audio)[None]})
        return float(probabilities[0, 0])
