"""48 kHz, as calls have it, to and from the 24 kHz that speech models want; each way delays by a millisecond."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from relay.models.protocol import Pcm

TAPS: Final = 96
CUTOFF: Final = 11_000 / 24_000
"""Of the Nyquist frequency at 48 kHz: the slope (±1.2 kHz) ends at 12.2 kHz, so that what folds back is 70 dB down."""

BETA: Final = 7.0
"""Kaiser window: 70 dB of attenuation."""


def _low_pass() -> npt.NDArray[np.float32]:
    steps = np.arange(TAPS) - (TAPS - 1) / 2
    taps = np.sinc(CUTOFF * steps) * np.kaiser(TAPS, BETA)
    normal: npt.NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normal


def _whole(samples: npt.NDArray[np.float32]) -> Pcm:
    rounded: Pcm = np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
    return rounded


class Halver:
    """48 kHz to 24 kHz."""

    def __init__(self) -> None:
        taps = _low_pass()
        self._even, self._odd = np.ascontiguousarray(taps[0::2]), np.ascontiguousarray(taps[1::2])
        self._past = np.zeros(TAPS - 2, np.float32)

    def __call__(self, pcm: Pcm) -> Pcm:
        """Return half as many samples; `pcm` has an even number of them."""
        samples = np.concatenate((self._past, pcm.astype(np.float32)))
        self._past = samples[-(TAPS - 2) :]
        even, odd = np.ascontiguousarray(samples[0::2]), np.ascontiguousarray(samples[1::2])
        return _whole(np.correlate(even, self._even, "valid") + np.correlate(odd, self._odd, "valid"))


class Doubler:
    """24 kHz to 48 kHz."""

    def __init__(self) -> None:
        taps = _low_pass() * 2
        self._phases = (np.ascontiguousarray(taps[0::2]), np.ascontiguousarray(taps[1::2]))
        self._past = np.zeros(TAPS // 2 - 1, np.float32)

    def __call__(self, pcm: Pcm) -> Pcm:
        """Return twice as many samples."""
        samples = np.concatenate((self._past, pcm.astype(np.float32)))
        self._past = samples[-(TAPS // 2 - 1) :]
        doubled = np.empty(2 * pcm.size, np.float32)
        for phase, taps in enumerate(self._phases):
            doubled[phase::2] = np.convolve(samples, taps, "valid")
        return _whole(doubled)
