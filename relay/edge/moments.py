"""Bad moments of sessions: which packets lie near one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

WEIGHT_MAX: Final = 250
"""Most packets that one row may stand for: five seconds of voice at 50 a second, more than a group ever has."""

_TIME_BITS: Final = 40  # microseconds since the first time looked at: six days before they touch the session's bits
_TIME_MAX: Final = (1 << (_TIME_BITS - 1)) - 1
_NOT_NEAR: Final = 1 << 62

Sessions = npt.NDArray[np.uint8]
Times = npt.NDArray[np.int64]


class Moments:
    """Moments by session, kept as long as packets may lie near them.

    Args:
        before_ns: so long before a moment a packet is near it.
        after_ns: and so long after.

    """

    def __init__(self, before_ns: int, after_ns: int) -> None:
        self._before_ns = before_ns
        self._after_ns = after_ns
        self._sessions: list[Sessions] = []
        self._times: list[Times] = []

    def add(self, sessions: Sessions, times_ns: Times) -> None:
        """Note moments: uint8 of shape (n, 16), and n times."""
        self._sessions.append(sessions)
        self._times.append(times_ns)

    def forget(self, end_ns: int) -> None:
        """Forget moments that nothing observed at or after `end_ns` can be near."""
        if not self._times:
            return
        sessions, times = np.concatenate(self._sessions), np.concatenate(self._times)
        keep = times >= end_ns - self._after_ns
        self._sessions, self._times = ([sessions[keep]], [times[keep]]) if keep.any() else ([], [])

    def near(self, sessions: Sessions, times_ns: Times) -> npt.NDArray[np.bool_]:
        """Tell which of n packets lie near a moment of their own session."""
        rows = len(times_ns)
        if not self._times or not rows:
            return np.zeros(rows, np.bool_)
        every = np.concatenate([sessions, *self._sessions])
        at_ns = np.concatenate([times_ns, *self._times])
        halves: npt.NDArray[Any] = np.ascontiguousarray(every).view(np.uint64)
        order = np.lexsort((at_ns, halves[:, 0], halves[:, 1]))
        begins = np.zeros(len(order), np.int64)
        begins[1:] = (np.diff(halves[order].astype(np.int64), axis=0) != 0).any(axis=1)
        # One rising number for session and time: what another session's moment is away is more than any window.
        at_us = np.clip((at_ns[order] - int(at_ns.min())) // 1000, 0, _TIME_MAX)
        place = np.cumsum(begins) << _TIME_BITS | at_us
        moment = order >= rows
        since = place - np.maximum.accumulate(np.where(moment, place, -_NOT_NEAR))
        until = np.minimum.accumulate(np.where(moment, place, _NOT_NEAR)[::-1])[::-1] - place
        close = (since <= self._after_ns // 1000) | (until <= self._before_ns // 1000)
        found = np.zeros(len(order), np.bool_)
        found[order] = close
        return found[:rows]
