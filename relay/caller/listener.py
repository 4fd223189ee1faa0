"""When the agent's voice began and ended in the caller's ear, to the precision of an energy window (2.5 ms)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.caller.phrases import PAUSE_MS
from relay.speech.clip import WINDOW

WINDOW_NS: Final = WINDOW * 1_000_000 // 48

CONFIRM_WINDOWS: Final = 4
"""Loud windows (10 ms) that make an onset: less is a click."""

CONFIRM_NS: Final = 60_000_000
"""Time within which they must come."""

HANG_NS: Final = 700_000_000
"""Silence that ends an answer: longer than the pause between two sentences of one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The agent's voice began (`started`) or ended at a time; an end is known `HANG_NS` after it happened."""

    started: bool
    at_ns: int


class Listener:
    """Turns loudness into stretches of the agent's speech. Pure: fed with every frame that is played."""

    def __init__(self) -> None:
        self._onset_ns: int | None = None
        self._onset_windows = 0
        self._audible = False
        self._last_ns = 0
        self._expects_new = False

    @property
    def audible(self) -> bool:
        """Whether an answer is under way."""
        return self._audible

    def expect_new(self) -> None:
        """The caller has said something: what the agent says after its next pause is another answer."""
        self._expects_new = True

    def frame(self, at_ns: int, loud: NDArray[np.bool_]) -> list[Heard]:
        """Take a frame whose first sample is played at `at_ns`; `loud` says which of its windows are voiced."""
        heard: list[Heard] = []
        for window in np.flatnonzero(loud):
            begins_ns = at_ns + int(window) * WINDOW_NS
            if self._audible and self._expects_new and begins_ns - self._last_ns >= PAUSE_MS * 1_000_000:
                heard.append(self._end())
            if not self._audible:
                heard.extend(self._confirm(begins_ns))
            self._last_ns = begins_ns + WINDOW_NS
        if self._audible and at_ns - self._last_ns > HANG_NS:
            heard.append(self._end())
        return heard

    def _confirm(self, begins_ns: int) -> list[Heard]:
        if self._onset_ns is None or begins_ns - self._onset_ns > CONFIRM_NS:
            self._onset_ns, self._onset_windows = begins_ns, 0
        self._onset_windows += 1
        if self._onset_windows < CONFIRM_WINDOWS:
            return []
        started_ns, self._onset_ns = self._onset_ns, None
        self._audible, self._expects_new = True, False
        return [Heard(started=True, at_ns=started_ns)]

    def _end(self) -> Heard:
        self._audible = False
        return Heard(started=False, at_ns=self._last_ns)
