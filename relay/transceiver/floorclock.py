"""UTC for turn-taking: it follows the wall clock where that is slewed, and stands apart from it where it is set.

A silence is the difference of two times. If the wall clock were set back by a minute while a user waits for an answer,
that silence would not grow for a minute; if it were set forward, every pause would be the end of a turn.
"""

from __future__ import annotations

import time
from typing import Final

STEP_NS: Final = 100_000_000
"""A wall clock that is further off than this between two looks, 20 ms apart, was set and not slewed."""


class FloorClock:
    """One call's."""

    def __init__(self) -> None:
        self.set_ns = 0
        """By how much the wall clock has been set since the call began: this clock's times and it are wall time."""
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Return the present. To be called every tick, so that no slewing adds up to a step."""
        mono_ns = time.monotonic_ns()
        offset_ns = time.time_ns() - mono_ns
        if abs(offset_ns - self._offset_ns) >= STEP_NS:
            self.set_ns += offset_ns - self._offset_ns
        self._offset_ns = offset_ns
        return mono_ns + offset_ns - self.set_ns
