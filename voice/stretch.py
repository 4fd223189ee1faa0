"""Speech made shorter or longer without a change of pitch: one period is taken out or said twice, and faded over.

Overlap-add at the lag at which the waveform is most like itself (WSOLA, Verhelst and Roelands 1993): 2.5 to 15 ms,
which holds one pitch period of any voice. The search runs at 6 kHz first, then sample by sample around what it found.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LAG_MIN: Final = 120
LAG_MAX: Final = 720
"""Samples at 48 kHz that one call takes out or puts in: 400 to 66.7 Hz."""

OVERLAP: Final = 240
"""Samples over which the two sides of a seam are faded."""

NEEDED: Final = LAG_MAX + OVERLAP
"""Fewest samples that `shorten` and `lengthen` work on: 20 ms."""

ALIKE: Final = 0.5
"""Correlation of the two sides below which a seam would be heard."""

_STEP: Final = 8
_COARSE_MIN: Final = LAG_MIN // _STEP
_COARSE_MAX: Final = LAG_MAX // _STEP
_COARSE_OVERLAP: Final = OVERLAP // _STEP
_FADE_IN: Final = (np.arange(OVERLAP, dtype=np.float32) + 0.5) / OVERLAP
_QUIET_POWER: Final = 1_000.0  # mean square of some -60 dBov: no seam is heard there

Pcm = npt.NDArray[np.int16]


def shorten(pcm: Pcm, alike: float = ALIKE) -> Pcm:
    """Return `pcm` (int16, 48 kHz mono, `NEEDED` samples at least) less one period, or as it is if a seam would show.

    The seam lies in the first 20 ms; `alike` is the correlation asked for, 0 … 1.
    """
    lag = _lag(pcm, alike)
    if lag is None:
        return pcm
    return np.concatenate((fade(pcm[:OVERLAP], pcm[lag : lag + OVERLAP]), pcm[lag + OVERLAP :]))


def lengthen(pcm: Pcm, alike: float = ALIKE) -> Pcm:
    """Return `pcm` (int16, 48 kHz mono, `NEEDED` samples at least) with one period twice; see `shorten`."""
    lag = _lag(pcm, alike)
    if lag is None:
        return pcm
    return np.concatenate((pcm[:lag], fade(pcm[lag : lag + OVERLAP], pcm[:OVERLAP]), pcm[OVERLAP:]))


def cut(pcm: Pcm, samples: int) -> Pcm:
    """Return `pcm` without its first `samples`, which are faded over into what follows; for pauses."""
    overlap = min(OVERLAP, len(pcm) - samples, samples)
    if overlap < OVERLAP:
        return pcm[samples:]
    return np.concatenate((fade(pcm[:OVERLAP], pcm[samples : samples + OVERLAP]), pcm[samples + OVERLAP :]))


def fade(out: Pcm, into: Pcm) -> Pcm:
    """Return `OVERLAP` samples that lead from one sound over into another."""
    mixed: Pcm = np.rint(out * (1.0 - _FADE_IN) + into * _FADE_IN).astype(np.int16)
    return mixed


def _lag(pcm: Pcm, alike: float) -> int | None:
    """The lag at which the beginning is most like what follows; None if nothing is like it."""
    if len(pcm) < NEEDED:
        return None
    samples = pcm[:NEEDED].astype(np.float32)
    head = samples[:OVERLAP]
    if float(np.dot(samples, samples)) / NEEDED < _QUIET_POWER:
        return LAG_MAX
    coarse = samples.reshape(-1, _STEP).mean(axis=1)
    best = _COARSE_MIN + int(
        np.argmax(_correlations(coarse[:_COARSE_OVERLAP], coarse[_COARSE_MIN : _COARSE_MAX + _COARSE_OVERLAP]))
    )
    first = max(LAG_MIN, best * _STEP - _STEP + 1)
    last = min(LAG_MAX, best * _STEP + _STEP - 1)
    fine = _correlations(head, samples[first : last + OVERLAP])
    at = int(np.argmax(fine))
    return first + at if fine[at] >= alike else None


def _correlations(head: npt.NDArray[np.float32], rest: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Normalised correlation of `head` with every window of its length in `rest`."""
    windows = np.lib.stride_tricks.sliding_window_view(rest, len(head))
    energies = np.einsum("ij,ij->i", windows, windows) * float(np.dot(head, head))
    found: npt.NDArray[np.float32] = (windows @ head) / np.sqrt(energies + 1.0)
    return found
