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
_BLOCK: Final = 16
"""Output samples made together: as a matrix, the filter costs less than half of what it does as a dot product each."""

_PCM_MIN: Final = -32_768
_PCM_MAX: Final = 32_767

Pcm = npt.NDArray[np.int16]


class Decimator:
    """A streaming low-pass filter that keeps every third sample of 20 ms frames. Delays by half a millisecond."""

    def __init__(self) -> None:
        steps = np.arange(TAPS) - (TAPS - 1) / 2
        taps = np.sinc(CUTOFF * steps) * np.hamming(TAPS)
        width = TAPS + FACTOR * (_BLOCK - 1)
        self._filter = np.zeros((width, _BLOCK), np.float32)
        for column in range(_BLOCK):
            self._filter[FACTOR * column : FACTOR * column + TAPS, column] = taps / taps.sum()
        # One buffer for ever, and one view of it in which each row is what a block is made of.
        self._buffer = np.zeros(_TAIL + FRAME_SAMPLES, np.float32)
        self._rows = np.lib.stride_tricks.sliding_window_view(self._buffer, width)[:: FACTOR * _BLOCK]
        self._made = np.empty((len(self._rows), _BLOCK), np.float32)

    def __call__(self, pcm: Pcm) -> Pcm:
        """Return 320 samples at 16 kHz for `FRAME_SAMPLES` at 48 kHz."""
        self._buffer[:_TAIL] = self._buffer[FRAME_SAMPLES:]
        self._buffer[_TAIL:] = pcm
        made = self._made
        np.matmul(self._rows, self._filter, out=made)
        np.rint(made, out=made)
        np.maximum(made, _PCM_MIN, out=made)
        np.minimum(made, _PCM_MAX, out=made)
        return made.astype(np.int16).ravel()
