"""Differences of times are rounded, alone and in arrays, and stay what an int32 holds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eventlog.resolution import coarse_us, coarse_us_many
from eventlog.schema import PACKET_TIME_NS

STEP = PACKET_TIME_NS // 1000
INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(INT32, max_size=30))
def test_an_array_is_rounded_as_each_of_its_numbers(deltas: list[int]) -> None:
    assert coarse_us_many(np.array(deltas, np.int32)).tolist() == [coarse_us(delta) for delta in deltas]


@given(INT32)
def test_what_is_lost_is_half_a_step_at_most(delta: int) -> None:
    coarse = coarse_us(delta)
    assert coarse % STEP == 0
    assert -(2**31) <= coarse < 2**31
    assert abs(coarse - delta) <= STEP / 2 or abs(coarse) > 2**31 - 1 - STEP
