"""48 kHz to 16 kHz, for detectors of speech."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from relay.models import FRAME_SAMPLES

FACTOR: Final = 3
TAPS: Final = 48
CUTOFF: Final = 0.30
"""Of the input's Nyquist frequency: 7.2 kHz, so that the filter's slope ends near the output's Nyquist, 8 kHz."""

_TAIL: Final = TAPS - FACTOR

Pcm = npt.NDArray[np.int16]


class Decimator:
    """A streaming low-pass filter that keeps every third sample of 20 ms frames. Delays by half a millisecond."""

    def __init__(self) -> None:
        steps = np.arange(TAPS) - (TAPS - 1) / 2
        taps = np.sinc(CUTOFF * steps) * np.hamming(TAPS)
        self._taps = (taps / taps.sum()).astype(np.float32)
        # One buffer for ever, and one view of it in which each row is what an output sample is made of.
        self._buffer = np.zeros(_TAIL + FRAME_SAMPLES, np.float32)
        self._windows = np.lib.stride_tricks.sliding_window_view(self._buffer, TAPS)[::FACTOR]

    def __call__(self, pcm: Pcm) -> Pcm:
        """Return 320 samples at 16 kHz for `FRAME_SAMPLES` at 48 kHz."""
        self._buffer[:_TAIL] = self._buffer[FRAME_SAMPLES:]
        self._buffer[_TAIL:] = pcm
        kept: Pcm = np.clip(np.rint(self._windows @ self._taps), -32_768, 32_767).astype(np.int16)
        return kept
