"""One 20 ms clock for all calls of a process: an absolute schedule, so that lateness never adds up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from relay.transceiver.counters import Counters

TICK_NS: Final = 20_000_000
CATCH_UP_TICKS: Final = 10
"""After a stall of up to 200 ms every tick is made good, late; a longer one (a suspended machine) is skipped over."""

_log = structlog.get_logger(__name__)


class Ticked(Protocol):
    """What the clock drives."""

    def tick(self, due_ns: int, now_ns: int) -> None:
        """Do what is due every 20 ms. Times are of the monotonic clock. Must not block."""

    def skip(self, ticks: int) -> None:
        """Learn that so many ticks were given up."""

    def failed(self, error: Exception) -> None:
        """Learn that `tick` raised; it will not be called again."""


class PlayoutClock:
    """Ticks everything attached, in the order of attachment."""

    def __init__(self, counters: Counters, *, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._counters = counters
        self._monotonic_ns = monotonic_ns
        self._ticked: dict[Ticked, None] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start ticking on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="playout clock")

    async def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def attach(self, ticked: Ticked) -> None:
        """Tick this too, from the next tick on."""
        self._ticked[ticked] = None

    def detach(self, ticked: Ticked) -> None:
        """Tick this no longer."""
        self._ticked.pop(ticked, None)

    async def _run(self) -> None:
        due_ns = self._monotonic_ns() + TICK_NS
        while True:
            now_ns = self._monotonic_ns()
            if now_ns < due_ns:
                await asyncio.sleep((due_ns - now_ns) / 1e9)
                continue
            if (behind := (now_ns - due_ns) // TICK_NS) > CATCH_UP_TICKS:
                due_ns += behind * TICK_NS
                self._counters.skipped_ticks += behind
                for ticked in tuple(self._ticked):
                    ticked.skip(behind)
            self._tick(due_ns, now_ns)
            due_ns += TICK_NS
            if self._monotonic_ns() >= due_ns:
                await asyncio.sleep(0)  # catching up must not starve the socket

    def _tick(self, due_ns: int, now_ns: int) -> None:
        self._counters.tick((now_ns - due_ns) / 1e9)
        for ticked in tuple(self._ticked):
            try:
                ticked.tick(due_ns, self._monotonic_ns())
            except Exception as error:  # noqa: BLE001 - one call's fault must not stop the others' clock
                self.detach(ticked)
                _log.exception("a call's tick failed; the call is ended")
                ticked.failed(error)
