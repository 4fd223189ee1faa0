"""Log-mel features of a voice as OpenAI's Whisper takes them; the end predictor is made of Whisper's encoder.

The parameters are those of Whisper's reference (`whisper/audio.py`) and of Hugging Face's feature extractor, whose
normalisation of the waveform smart-turn was trained with: 16 kHz, windows of 25 ms every 10 ms, 80 mel bands on
Slaney's scale with equal areas, the logarithm limited to 80 dB under the loudest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

RATE: Final = 16_000
SECONDS: Final = 8
SAMPLES: Final = RATE * SECONDS
WINDOW: Final = 400
HOP: Final = 160
BANDS: Final = 80

_BREAK_HZ: Final = 1_000.0
"""Slaney's scale (Auditory Toolbox, 1998): linear below, 200/3 Hz a mel; above logarithmic, 27 mels a factor of 6.4."""
_BREAK_MEL: Final = 15.0
_MEL_PER_LOG: Final = 27.0 / np.log(6.4)
_FLOOR: Final = 1e-10
_VARIANCE_FLOOR: Final = 1e-7

Features = npt.NDArray[np.float32]


def log_mel(pcm: npt.NDArray[np.int16]) -> Features:
    """Return the features of the last 8 s, float32 of shape (80, 800).

    Args:
        pcm: int16 of shape (samples,), 16 kHz mono. What is shorter is preceded by digital silence.

    """
    voice = np.zeros(SAMPLES, np.float32)
    last = pcm[-SAMPLES:]
    if last.size:
        voice[-last.size :] = last / np.float32(32_768.0)
    voice = (voice - voice.mean()) / np.sqrt(voice.var() + _VARIANCE_FLOOR)
    padded = np.pad(voice, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:-1]
    power = np.square(np.abs(np.fft.rfft(windows * _HANN, axis=-1)))
    logs = np.log10(np.maximum(power @ _FILTERS, _FLOOR)).T
    features: Features = ((np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0).astype(np.float32)
    return features


def _hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp((np.maximum(mels, _BREAK_MEL) - _BREAK_MEL) / _MEL_PER_LOG)
    return np.where(mels < _BREAK_MEL, mels * 200.0 / 3.0, above)


def _filters() -> npt.NDArray[np.float64]:
    """Triangles of equal area between the centres of their neighbours, shape (201, 80)."""
    top_mel = _BREAK_MEL + np.log(RATE / 2 / _BREAK_HZ) * _MEL_PER_LOG
    edges = _hz(np.linspace(0.0, top_mel, BANDS + 2))
    bins = np.linspace(0.0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.maximum(triangles, 0.0) * (2.0 / (high - low))


_HANN: Final = np.hanning(WINDOW + 1)[:-1]
_FILTERS: Final = _filters()
