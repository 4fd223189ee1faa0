from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.transceiver.clock import CATCH_UP_TICKS, PHASE_NS, PHASES, TICK_NS, PlayoutClock
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


async def test_calls_are_ticked_at_different_times_and_every_tick_of_each_is_counted() -> None:
    counters = Counters()
    clock = PlayoutClock(counters, monotonic_ns=Time())
    calls = [Ticked(clock, 8) for _ in range(2 * PHASES)]
    clock.start()
    await asyncio.wait_for(asyncio.gather(*(call.done.wait() for call in calls)), 5)
    await clock.stop()
    phases = [{due // PHASE_NS % PHASES for due in call.due} for call in calls]
    assert all(len(phase) == 1 for phase in phases)
    assert sorted(phase.pop() for phase in phases) == sorted([*range(PHASES)] * 2)
    assert sum(counters.lateness_counts) == sum(len(call.due) for call in calls)


async def test_a_stall_is_skipped_by_the_calls_of_every_phase() -> None:
    counters = Counters()
    clock = PlayoutClock(counters, monotonic_ns=Time({30: 500 * TICK_NS}))
    calls = [Ticked(clock, 12) for _ in range(3)]
    clock.start()
    await asyncio.wait_for(asyncio.gather(*(call.done.wait() for call in calls)), 5)
    await clock.stop()
    for call in calls:
        assert call.skipped == counters.skipped_ticks > 0
        assert (call.due[-1] - call.due[0]) // TICK_NS == len(call.due) - 1 + call.skipped


async def test_a_call_comes_in_where_fewest_are() -> None:
    clock = PlayoutClock(Counters(), monotonic_ns=Time())
    first, *_ = calls = [Ticked(clock, 4) for _ in range(PHASES)]
    clock.detach(first)
    calls.append(late := Ticked(clock, 4))
    clock.start()
    await asyncio.wait_for(asyncio.gather(*(call.done.wait() for call in calls[1:])), 5)
    await clock.stop()
    assert not first.due
    assert len({due // PHASE_NS % PHASES for call in calls[1:] for due in call.due}) == PHASES
    assert len(late.due) >= 4


async def test_clock_says_that_a_tick_waits_until_it_is_done() -> None:
    now_ns = 0
    clock = PlayoutClock(Counters(), monotonic_ns=lambda: now_ns)
    assert not clock.is_due()
    ticked = Ticked(clock, 1)
    clock.start()
    now_ns = TICK_NS - 1
    assert not clock.is_due()
    now_ns = TICK_NS
    assert clock.is_due()
    await asyncio.wait_for(ticked.done.wait(), 5)
    assert not clock.is_due()
    await clock.stop()
    assert not clock.is_due()
