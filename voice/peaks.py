"""Long delays that come back: how long a delay playout should be ready for while somebody speaks.

A quantile follows what most packets do, and has forgotten a spike of some hundred milliseconds before the next one
comes. Each spike in the middle of a word tears a hole into it, so what comes every twenty seconds or more often is
waited for. A single stall is not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MS: Final = 1_000_000
_S: Final = 1_000 * _MS
_SPIKE_NS: Final = 100 * _MS  # above the base; what is shorter, concealment bridges
_APART_NS: Final = 2 * _S  # packets that a spike held up all come late: they are one spike
_WINDOW_NS: Final = 60 * _S
_OFTEN_NS: Final = 20 * _S
_SPIKES: Final = _WINDOW_NS // _APART_NS


class Peaks:
    """The longest delays of the last minute, and which of them is to be expected again."""

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._spikes: deque[tuple[int, int]] = deque(maxlen=_SPIKES)  # when it began, its longest delay
        self.expected_ms = 0.0
        """Reached twice at least, and once in twenty seconds of the last minute; 0 if no spike was."""

    def observe(self, delay_ns: int, now_ns: int) -> None:
        """Take one packet's delay above the base."""
        if self._began_ns is None:
            self._began_ns = now_ns
        while self._spikes and now_ns - self._spikes[0][0] > _WINDOW_NS:
            self._spikes.popleft()
        if delay_ns >= _SPIKE_NS:
            began_ns, longest_ns = now_ns, 0
            if self._spikes and now_ns - self._spikes[-1][0] < _APART_NS:
                began_ns, longest_ns = self._spikes.pop()
            self._spikes.append((began_ns, max(longest_ns, delay_ns)))
        if not self._spikes:
            self.expected_ms = 0.0
            return
        rank = max(1, min(now_ns - self._began_ns, _WINDOW_NS) // _OFTEN_NS)
        longest = sorted((longest_ns for _, longest_ns in self._spikes), reverse=True)
        self.expected_ms = longest[rank] / _MS if rank < len(longest) else 0.0
