"""How far the caller's clock is from the platform's: the best of many questions and answers. Pure.

As in NTP (RFC 5905 §8), with the answer given at once: a question leaves at `sent`, the other end's clock shows
`server` when it answers, the answer is here at `now`. Whatever the way, the other clock showed that between `sent` and
`now` of ours, so `server - (sent + now) / 2` is wrong by half of the round trip at most; the least one says most.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

KEPT: Final = 64
"""Answers looked at: two minutes of them at the caller's rate, within which clocks of one machine drift by little."""


class Offset(NamedTuple):
    """What to add to the caller's time for the platform's, and how wrong that may be, both ns."""

    offset_ns: int
    error_ns: int


class ClockOffset:
    """Keeps the latest answers."""

    def __init__(self) -> None:
        self._answers: deque[Offset] = deque(maxlen=KEPT)

    def answered(self, sent_ns: int, server_ns: int, now_ns: int) -> None:
        """Take an answer; one that came before its question was asked is none."""
        if now_ns >= sent_ns:
            self._answers.append(Offset(server_ns - (sent_ns + now_ns) // 2, (now_ns - sent_ns + 1) // 2))

    @property
    def best(self) -> Offset | None:
        """The answer with the least round trip; None before the first."""
        return min(self._answers, key=lambda answer: answer.error_ns, default=None)
