"""Silero VAD: a small recurrent network that says for every 32 ms how likely they hold speech."""

from __future__ import annotations

from typing import Final

import numpy as np

from relay.predictors import weights
from voice.vad import SAMPLE_RATE, Pcm, calibrated_hangover_ms, check_frame

WINDOW: Final = 512
"""Samples of one verdict; the network was trained with no other length at 16 kHz."""

CONTEXT: Final = 64
"""Samples of the window before that the network is given, too."""

RESET_WINDOWS: Final = 63
"""2 s: long silence or music makes the network deaf for what follows, so its memory is cleared in the silence."""

QUIET: Final = 0.1
QUIET_WINDOWS: Final = 5

OFF_BELOW: Final = 0.15
"""Speech goes on while the probability is less than this far below the threshold: Silero's own rule."""


class SileroVad:
    """Wraps the network's windows of 512 samples to frames of 320.

    A frame's verdict is that of the last whole window, which may have ended up to 20 ms before the frame.

    Args:
        threshold: probability from which it is speech.

    Raises:
        WeightsError: the weights, or what runs them, are not installed.

    """

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.name = f"silero:{threshold:g}"
        self.hangover_ms = calibrated_hangover_ms(self.name)
        self.probability: float | None = None
        self._session = weights.session(weights.SILERO)
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self._waiting = np.zeros(0, np.int16)
        self._speech = False
        self._windows = self._quiet = 0
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def is_speech(self, pcm: Pcm) -> bool:
        """See `voice.vad.Vad.is_speech`."""
        check_frame(pcm)
        self._waiting = np.concatenate((self._waiting, pcm))
        while self._waiting.size >= WINDOW:
            self._judge(self._waiting[:WINDOW])
            self._waiting = self._waiting[WINDOW:]
        return self._speech

    def _judge(self, window: Pcm) -> None:
        samples = window.astype(np.float32) / np.float32(32_768.0)
        given = np.concatenate((self._context, samples))[None]
        out, self._state = self._session.run(None, {"input": given, "state": self._state, "sr": self._rate})
        self._context = samples[-CONTEXT:]
        self.probability = float(out[0, 0])
        self._speech = self.probability >= self.threshold - (OFF_BELOW if self._speech else 0.0)
        self._windows += 1
        self._quiet = self._quiet + 1 if self.probability < QUIET else 0
        if self._windows >= RESET_WINDOWS and self._quiet >= QUIET_WINDOWS:
            self._forget()

    def _forget(self) -> None:
        self._state = np.zeros_like(self._state)
        self._context = np.zeros_like(self._context)
        self._windows = self._quiet = 0
