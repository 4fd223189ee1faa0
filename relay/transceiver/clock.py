"""One 20 ms clock for all calls of a process: an absolute schedule, so that lateness never adds up.

Calls have their ticks at different phases of the 20 ms. Were they all due at once, the last would wait for the work of
all others, every packet that came meanwhile too, and their packets would leave as a burst.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from relay.transceiver.counters import Counters

TICK_NS: Final = 20_000_000
MS_NS: Final = 1_000_000
PHASES: Final = 20
PHASE_NS: Final = TICK_NS // PHASES
"""1 ms: some two calls' work, and no finer than an event loop's timer can tell apart."""

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
    """Ticks everything attached, each at the phase that had the fewest when it came."""

    def __init__(self, counters: Counters, *, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._counters = counters
        self._monotonic_ns = monotonic_ns
        self._phases: tuple[dict[Ticked, None], ...] = tuple({} for _ in range(PHASES))
        self._task: asyncio.Task[None] | None = None
        self._due_ns = 0

    def is_due(self) -> bool:
        """Whether a tick waits to be done, so that whoever holds the loop shall give it back. False before `start`."""
        return self._task is not None and self._monotonic_ns() >= self._due_ns

    def start(self) -> None:
        """Start ticking on the running loop."""
        self._due_ns = self._monotonic_ns() + TICK_NS
        self._task = asyncio.get_running_loop().create_task(self._run(), name="playout clock")

    async def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def attach(self, ticked: Ticked) -> None:
        """Tick this too, from its phase's next tick on."""
        min(self._phases, key=len)[ticked] = None

    def detach(self, ticked: Ticked) -> None:
        """Tick this no longer."""
        for phase in self._phases:
            phase.pop(ticked, None)

    async def _run(self) -> None:
        phase = 0
        while True:
            now_ns = self._monotonic_ns()
            if now_ns < self._due_ns:
                # Whole milliseconds: uvloop rounds less than half of one down to none, and the wait becomes a spin.
                await asyncio.sleep(-((now_ns - self._due_ns) // MS_NS) / 1000)
                continue
            if (behind := (now_ns - self._due_ns) // TICK_NS) > CATCH_UP_TICKS:
                self._due_ns += behind * TICK_NS
                self._skip(behind)
            self._tick(phase, self._due_ns)
            steps = next((step for step in range(1, PHASES) if self._phases[(phase + step) % PHASES]), PHASES)
            phase, self._due_ns = (phase + steps) % PHASES, self._due_ns + steps * PHASE_NS
            if self.is_due():
                await asyncio.sleep(0)  # catching up must not starve the socket

    def _skip(self, ticks: int) -> None:
        self._counters.skipped_ticks += ticks
        for ticked in [ticked for phase in self._phases for ticked in phase]:
            ticked.skip(ticks)

    def _tick(self, phase: int, due_ns: int) -> None:
        for ticked in tuple(self._phases[phase]):
            now_ns = self._monotonic_ns()
            self._counters.tick((now_ns - due_ns) / 1e9)
            try:
                ticked.tick(due_ns, now_ns)
            except Exception as error:  # noqa: BLE001 - one call's fault must not stop the others' clock
                self.detach(ticked)
                _log.exception("a call's tick failed; the call is ended")
                ticked.failed(error)
