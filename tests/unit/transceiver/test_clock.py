from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.transceiver.clock import CATCH_UP_TICKS, TICK_NS, PlayoutClock
from relay.transceiver.counters import Counters


class Time:
    """A clock that jumps as told, and otherwise passes one tick for each look at it."""

    def __init__(self, jumps: dict[int, int] | None = None) -> None:
        self.now_ns = 0
        self.looks = 0
        self.jumps = jumps or {}

    def __call__(self) -> int:
        self.looks += 1
        self.now_ns += self.jumps.get(self.looks, TICK_NS // 4)
        return self.now_ns


class Ticked:
    def __init__(self, clock: PlayoutClock, count: int, fail_at: int | None = None) -> None:
        self.due: list[int] = []
        self.skipped = 0
        self.error: Exception | None = None
        self.done = asyncio.Event()
        self._clock, self._count, self._fail_at = clock, count, fail_at
        clock.attach(self)

    def tick(self, due_ns: int, now_ns: int) -> None:
        assert now_ns >= due_ns
        if len(self.due) == self._fail_at:
            raise ZeroDivisionError
        self.due.append(due_ns)
        if len(self.due) == self._count:
            self.done.set()

    def skip(self, ticks: int) -> None:
        self.skipped += ticks

    def failed(self, error: Exception) -> None:
        self.error = error
        self.done.set()


async def run(time: Callable[[], int], count: int) -> tuple[Ticked, Counters]:
    counters = Counters()
    clock = PlayoutClock(counters, monotonic_ns=time)
    ticked = Ticked(clock, count)
    clock.start()
    await asyncio.wait_for(ticked.done.wait(), 5)
    await clock.stop()
    return ticked, counters


async def test_ticks_are_due_every_20_ms_however_late_they_run() -> None:
    ticked, counters = await run(Time({10: 5 * TICK_NS}), 12)
    steps = {later - earlier for earlier, later in zip(ticked.due, ticked.due[1:], strict=False)}
    assert steps == {TICK_NS}
    assert (ticked.skipped, counters.skipped_ticks) == (0, 0)


async def test_a_long_stall_is_skipped_and_told() -> None:
    ticked, counters = await run(Time({10: 500 * TICK_NS}), 12)
    assert ticked.skipped == counters.skipped_ticks > 500 - CATCH_UP_TICKS
    passed = (ticked.due[-1] - ticked.due[0]) // TICK_NS
    assert passed == len(ticked.due) - 1 + ticked.skipped


async def test_a_call_that_fails_does_not_stop_the_others() -> None:
    counters = Counters()
    clock = PlayoutClock(counters, monotonic_ns=Time())
    broken, sound = Ticked(clock, 10, fail_at=2), Ticked(clock, 10)
    clock.start()
    await asyncio.wait_for(sound.done.wait(), 5)
    await clock.stop()
    assert isinstance(broken.error, ZeroDivisionError)
    assert len(broken.due) == 2
