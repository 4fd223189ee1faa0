"""What gives way when more comes in than goes out: new calls first, then telemetry, voice last.

A socket that one batch does not empty is behind. A pause of the whole machine leaves one too, but is made up for in
milliseconds; what counts is how long it lasts without an end.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from relay.edge.config import Limits

_NS: Final = 1_000_000_000


class Pressure(IntEnum):
    """How much gives way; each level includes those before."""

    NONE = 0
    REFUSE_CALLS = 1
    SHED_TELEMETRY = 2


class Gauge:
    """Tells the pressure from how long the sockets have been behind. Time is an argument."""

    def __init__(self, limits: Limits) -> None:
        self._refuse_ns = int(limits.refuse_behind_s * _NS)
        self._shed_ns = int(limits.shed_behind_s * _NS)
        self._since_ns: int | None = None

    def turned(self, *, behind: bool, now_ns: int) -> Pressure:
        """Take one turn of the loop: whether it left datagrams in a socket, and when (monotonic)."""
        if not behind:
            self._since_ns = None
            return Pressure.NONE
        if self._since_ns is None:
            self._since_ns = now_ns
        lasted_ns = now_ns - self._since_ns
        if lasted_ns >= self._shed_ns:
            return Pressure.SHED_TELEMETRY
        return Pressure.REFUSE_CALLS if lasted_ns >= self._refuse_ns else Pressure.NONE
