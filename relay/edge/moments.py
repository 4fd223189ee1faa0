"""Bad moments of sessions, as spans of time: which packets lie in one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

WEIGHT_MAX: Final = 250
"""Most packets that one row may stand for: five seconds of voice at 50 a second, more than a group ever has."""

_TIME_BITS: Final = 40  # microseconds since the first time looked at: six days before they touch the session's bits
_TIME_MAX: Final = (1 << (_TIME_BITS - 1)) - 1
_NO_REACH: Final = -1

Sessions = npt.NDArray[np.uint8]
Times = npt.NDArray[np.int64]


class Moments:
    """Spans by session, kept as long as packets may lie in them."""

    def __init__(self) -> None:
        self._sessions: list[Sessions] = []
        self._begins: list[Times] = []
        self._ends: list[Times] = []

    def add(self, sessions: Sessions, begins_ns: Times, ends_ns: Times) -> None:
        """Note spans: uint8 of shape (n, 16), and n first and n last instants."""
        if not len(sessions):
            return
        self._sessions.append(sessions)
        self._begins.append(begins_ns)
        self._ends.append(ends_ns)

    def forget(self, end_ns: int) -> None:
        """Forget spans that nothing observed at or after `end_ns` can lie in."""
        if not self._sessions:
            return
        sessions = np.concatenate(self._sessions)
        begins, ends = np.concatenate(self._begins), np.concatenate(self._ends)
        keep = ends >= end_ns
        self._sessions, self._begins, self._ends = [], [], []
        if keep.any():
            self.add(sessions[keep], begins[keep], ends[keep])

    def near(self, sessions: Sessions, times_ns: Times) -> npt.NDArray[np.bool_]:
        """Tell which of n packets lie in a span of their own session."""
        rows = len(times_ns)
        if not self._sessions or not rows:
            return np.zeros(rows, np.bool_)
        # Spans come first, so that a packet at a span's very beginning is sorted after it.
        every = np.concatenate([*self._sessions, sessions])
        at_ns = np.concatenate([*self._begins, times_ns])
        first_ns, spans = int(at_ns.min()), len(at_ns) - rows
        halves: npt.NDArray[Any] = np.ascontiguousarray(every).view(np.uint64)
        order = np.lexsort((at_ns, halves[:, 0], halves[:, 1]))
        begins = np.zeros(len(order), np.int64)
        begins[1:] = (np.diff(halves[order].astype(np.int64), axis=0) != 0).any(axis=1)
        # One rising number for session and time: how far spans reach never touches the next session.
        session = np.cumsum(begins) << _TIME_BITS
        ends = np.full(len(order), _NO_REACH, np.int64)
        ends[:spans] = np.clip((np.concatenate(self._ends) - first_ns) // 1000, 0, _TIME_MAX)
        ends = ends[order]
        reach = np.maximum.accumulate(np.where(ends < 0, _NO_REACH, session | ends))
        place = session | np.clip((at_ns[order] - first_ns) // 1000, 0, _TIME_MAX)
        found = np.zeros(len(order), np.bool_)
        found[order] = reach >= place
        return found[spans:]
