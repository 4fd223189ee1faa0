"""Is there speech in these 20 ms? One protocol, two detectors, and the level they may be read beside.

A detector's `name` carries its settings, because every fact that rests on it names it.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import webrtcvad

SAMPLE_RATE: Final = 16_000
FRAME_SAMPLES: Final = 320
"""20 ms at 16 kHz."""

MIN_DBOV: Final = -127.0
"""RFC 6464 §3: the level of digital silence."""

_OVERLOAD: Final = 32_767.0
_WEBRTC_HANGOVER_MS: Final = (157.0, 157.0, 115.0, 113.0)
"""By mode, for 20 ms frames after speech of more than a few frames: the median, over clips of synthetic speech with
exact ends at random offsets from the frame grid, of how far the end of the last frame called speech lies behind the
true end (half a frame of rounding included). Measured here; spread ±15 ms. The detector's smoothing explains it."""

Pcm = npt.NDArray[np.int16]


class Vad(Protocol):
    """A voice activity detector for one stream. It may keep state: one instance per stream, frames in order."""

    @property
    def name(self) -> str:
        """Detector and settings, as facts name it (`webrtcvad:2`)."""

    @property
    def hangover_ms(self) -> float:
        """How long the detector goes on saying speech after the speech has ended, typically."""

    def is_speech(self, pcm: Pcm) -> bool:
        """Judge the next frame: int16, mono, 16 kHz, shape (320,).

        Raises:
            ValueError: the frame has another shape or type.

        """


class WebRtcVad:
    """The detector of WebRTC (Gaussian mixtures over six sub-bands), by libfvad's ancestor in `webrtcvad`.

    Args:
        aggressiveness: 0 (calls most things speech) … 3 (calls least).

    """

    def __init__(self, aggressiveness: int = 2) -> None:
        if aggressiveness not in range(len(_WEBRTC_HANGOVER_MS)):
            raise ValueError(f"aggressiveness is 0 to 3, not {aggressiveness}")
        self._vad = webrtcvad.Vad(aggressiveness)
        self.name = f"webrtcvad:{aggressiveness}"
        self.hangover_ms = _WEBRTC_HANGOVER_MS[aggressiveness]

    def is_speech(self, pcm: Pcm) -> bool:
        """See `Vad.is_speech`."""
        _check(pcm)
        return bool(self._vad.is_speech(pcm.tobytes(), SAMPLE_RATE))


class EnergyVad:
    """Speech is what is louder than a threshold; no memory, so its hangover is zero.

    For tests and for clean synthetic speech, where its edges are exact to one frame.

    Args:
        threshold_dbov: level above which a frame is speech.

    """

    def __init__(self, threshold_dbov: float = -50.0) -> None:
        self.threshold_dbov = threshold_dbov
        self.name = f"energy:{threshold_dbov:g}"
        self.hangover_ms = 0.0

    def is_speech(self, pcm: Pcm) -> bool:
        """See `Vad.is_speech`."""
        _check(pcm)
        return level_dbov(pcm) > self.threshold_dbov


def level_dbov(pcm: Pcm) -> float:
    """Level of int16 samples of any length in dBov, -127.0 … 0.0 (RFC 6464 §3, RFC 6465 appendix A).

    Root mean square relative to the overload point: a full-scale square wave is 0, a full-scale sine -3.01. Digital
    silence and the empty array are -127.
    """
    if not pcm.size:
        return MIN_DBOV
    samples = pcm.astype(np.float64)
    power = float(np.dot(samples, samples)) / pcm.size
    if power <= 0.0:
        return MIN_DBOV
    return min(0.0, max(MIN_DBOV, 10.0 * math.log10(power) - 20.0 * math.log10(_OVERLOAD)))


def _check(pcm: Pcm) -> None:
    if pcm.dtype != np.int16 or pcm.shape != (FRAME_SAMPLES,):
        raise ValueError(f"a frame is int16 of shape ({FRAME_SAMPLES},) at 16 kHz, not {pcm.dtype} of {pcm.shape}")
