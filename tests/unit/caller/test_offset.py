from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.caller.offset import KEPT, ClockOffset, Offset

MS = 1_000_000
WAYS = st.lists(st.tuples(st.integers(0, 500 * MS), st.integers(0, 500 * MS)), min_size=1, max_size=KEPT)


@given(WAYS, st.integers(-(10**18), 10**18))
def test_the_true_offset_lies_within_the_error(ways: list[tuple[int, int]], offset_ns: int) -> None:
    clock, now_ns = ClockOffset(), 10**18
    for up_ns, down_ns in ways:
        clock.answered(now_ns, now_ns + up_ns + offset_ns, now_ns + up_ns + down_ns)
        now_ns += 2_000 * MS
    best = clock.best
    assert best is not None
    assert abs(best.offset_ns - offset_ns) <= best.error_ns
    assert best.error_ns == (min(up_ns + down_ns for up_ns, down_ns in ways) + 1) // 2


def test_old_answers_are_forgotten() -> None:
    clock = ClockOffset()
    assert clock.best is None
    clock.answered(10, 5, 0)  # before its question
    assert clock.best is None
    clock.answered(0, 5, 10)
    for _ in range(KEPT):
        clock.answered(0, 300, 200)
    assert clock.best == Offset(200, 100)
