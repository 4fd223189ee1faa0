"""Cutting a packet's times to what is kept of them. Differences are taken before, from uncut times."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from eventlog.schema import PACKET_TIME_NS

_STEP_US: Final = PACKET_TIME_NS // 1000
_MOST_STEPS: Final = (2**31 - 1) // _STEP_US


def coarse_us(delta_us: int) -> int:
    """Round a difference of transit times, in microseconds, to the nearest step that an int32 holds."""
    return max(-_MOST_STEPS, min(_MOST_STEPS, round(delta_us / _STEP_US))) * _STEP_US


def coarse_us_many(delta_us: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Do the same to an array of any shape."""
    steps = np.clip(np.rint(delta_us / _STEP_US), -_MOST_STEPS, _MOST_STEPS)
    return (steps * _STEP_US).astype(np.int32)
