"""48 kHz to 16 kHz, for detectors of speech."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FACTOR: Final = 3
TAPS: Final = 48
CUTOFF: Final = 0.30
"""Of the input's Nyquist frequency: 7.2 kHz, so that the filter's slope ends near the output's Nyquist, 8 kHz."""

Pcm = npt.NDArray[np.int16]


class Decimator:
    """A streaming low-pass filter that keeps every third sample. Delays by 24 samples, half a millisecond."""

    def __init__(self) -> None:
        steps = np.arange(TAPS) - (TAPS - 1) / 2
        taps = np.sinc(CUTOFF * steps) * np.hamming(TAPS)
        self._taps = (taps / taps.sum()).astype(np.float32)
        self._tail = np.zeros(TAPS - FACTOR, np.float32)

    def __call__(self, pcm: Pcm) -> Pcm:
        """Return a third as many samples; the length of `pcm` is a multiple of three."""
        samples = np.concatenate((self._tail, pcm.astype(np.float32)))
        self._tail = samples[len(pcm) :]
        windows = np.lib.stride_tricks.sliding_window_view(samples, TAPS)[::FACTOR]
        kept: Pcm = np.clip(np.rint(windows @ self._taps), -32_768, 32_767).astype(np.int16)
        return kept
