"""Is there speech in these 20 ms? One protocol, the detectors that need no extra, and the level beside them.

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
_WEBRTC_MODES: Final = range(4)

_WEBRTC_DEAF_FRAMES: Final = 5
"""It knows no room at first and takes any noise for speech, for 4 or 5 frames in 60 of 60 trials with noise of -30 to
-60 dBov: long enough for an onset. So its first verdicts count for nothing."""

_HANGOVER_MS: Final = {
    "webrtcvad:0": 157.0,
    "webrtcvad:1": 157.0,
    "webrtcvad:2": 115.0,
    "webrtcvad:3": 113.0,
    "silero:0.5": 95.0,
}
"""By detector, what `python -m bench.hangover` measured: the median, over clips with known ends at all offsets from the
frame grid, of how far the end of the last frame called speech lies behind the true end. `docs/turn-taking.md` has the
spreads."""

Pcm = npt.NDArray[np.int16]


class Vad(Protocol):
    """A voice activity detector for one stream. It may keep state: one instance per stream, frames in order."""

    @property
    def name(self) -> str:
        """Detector and settings, as facts name it (`webrtcvad:2`)."""

    @property
    def hangover_ms(self) -> float:
        """How long the detector goes on saying speech after the speech has ended, typically."""

    @property
    def probability(self) -> float | None:
        """That the last frame was speech, if the detector works with probabilities."""

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
        if aggressiveness not in _WEBRTC_MODES:
            raise ValueError(f"aggressiveness is 0 to 3, not {aggressiveness}")
        self._vad = webrtcvad.Vad(aggressiveness)
        self._deaf_frames = _WEBRTC_DEAF_FRAMES
        self.name = f"webrtcvad:{aggressiveness}"
        self.hangover_ms = calibrated_hangover_ms(self.name)
        self.probability = None

    def is_speech(self, pcm: Pcm) -> bool:
        """See `Vad.is_speech`."""
        check_frame(pcm)
        verdict = bool(self._vad.is_speech(pcm.tobytes(), SAMPLE_RATE))
        if self._deaf_frames:
            self._deaf_frames -= 1
            return False
        return verdict


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
        self.probability = None

    def is_speech(self, pcm: Pcm) -> bool:
        """See `Vad.is_speech`."""
        check_frame(pcm)
        return level_dbov(pcm) > self.threshold_dbov


def calibrated_hangover_ms(name: str) -> float:
    """Return how long a detector goes on after speech; 0 if it was not measured."""
    return _HANGOVER_MS.get(name, 0.0)


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


def check_frame(pcm: Pcm) -> None:
    """Refuse what is not 20 ms at 16 kHz.

    Raises:
        ValueError: it has another shape or type.

    """
    if pcm.dtype != np.int16 or pcm.shape != (FRAME_SAMPLES,):
        raise ValueError(f"a frame is int16 of shape ({FRAME_SAMPLES},) at 16 kHz, not {pcm.dtype} of {pcm.shape}")
