"""Probes of the way to the transceivers: signed, answered once, and nothing else is believed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.edge.probe import Prober, Trip
from relay.probe import ProbeError, ping, pong, read_pong, refuses

KEY, OLD, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
NEAR, FAR = ("10.0.0.1", 4000), ("10.0.0.2", 4000)
SECOND = 1_000_000_000


def prober() -> Prober:
    numbers = itertools.count(1)
    return Prober([KEY], lambda size: next(numbers).to_bytes(size, "big"))


def test_a_round_trip_to_each_transceiver() -> None:
    edge = prober()
    (to_near, near), (to_far, far) = edge.pings([NEAR, FAR], 100 * SECOND)
    assert (near, far) == (NEAR, FAR)
    assert to_near != to_far
    answer = pong(to_far, [OLD, KEY], "us-east")
    assert edge.answered(answer, FAR, 100 * SECOND + 70_000_000) == Trip(
        100 * SECOND + 70_000_000, 70_000_000, "us-east"
    )
    assert edge.answered(answer, FAR, 101 * SECOND) is None, "a second time it tells nothing"
    assert edge.answered(pong(to_near, [KEY], ""), NEAR, 100 * SECOND + 5) == Trip(100 * SECOND + 5, 5, None)


def test_answers_that_are_late_or_of_another_tell_nothing() -> None:
    edge = prober()
    ((first, _),) = edge.pings([NEAR], SECOND)
    edge.pings([NEAR], 2 * SECOND)
    assert edge.answered(pong(first, [KEY], "x"), NEAR, 3 * SECOND) is None
    ((last, _),) = edge.pings([NEAR], 3 * SECOND)
    assert edge.answered(pong(last, [KEY], "x"), FAR, 4 * SECOND) is None
    assert edge.answered(pong(last, [KEY], "x"), NEAR, 3 * SECOND - 1) is None, "the clock was set back"


def test_a_ping_says_whether_new_calls_are_refused() -> None:
    for refusing in (False, True):
        ((asked, _),) = prober().pings([NEAR], SECOND, refusing=refusing)
        assert read_pong(pong(asked, [KEY], "x"), [KEY]).region == "x"
        assert refuses(asked) is refusing
    reserved = bytearray(ping(bytes(8), KEY))
    reserved[1] = 0x02
    with pytest.raises(ProbeError, match="no ping"):
        pong(bytes(reserved), [KEY], "x")


def test_whoever_has_not_the_key_gets_nothing() -> None:
    asked = ping(bytes(8), OTHER)
    with pytest.raises(ProbeError, match="MAC"):
        pong(asked, [KEY, OLD], "x")
    with pytest.raises(ProbeError, match="MAC"):
        read_pong(pong(asked, [OTHER], "x"), [KEY])
    with pytest.raises(ProbeError, match="8 bytes"):
        ping(b"short", KEY)


def test_a_name_that_is_too_long_is_left_out() -> None:
    assert read_pong(pong(ping(bytes(8), KEY), [KEY], "ü" * 33), [KEY]).region == ""
    assert read_pong(pong(ping(bytes(8), KEY), [KEY], "ü" * 32), [KEY]).region == "ü" * 32


@given(st.binary(max_size=100) | st.binary(max_size=90).map(lambda tail: b"\x5d\0" + tail))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProbeError):
        read_pong(data, [KEY])
    with pytest.raises(ProbeError):
        pong(data, [KEY], "x")


@given(st.integers(0, 8 * 30 - 1))
def test_every_bit_is_signed(bit: int) -> None:
    for good in (ping(bytes(8), KEY), ping(bytes(8), KEY, refusing=True), pong(ping(bytes(8), KEY), [KEY], "eu-west")):
        changed = bytearray(good)
        changed[bit // 8 % len(good)] ^= 1 << bit % 8
        with pytest.raises(ProbeError):
            pong(bytes(changed), [KEY], "x")
        with pytest.raises(ProbeError):
            read_pong(bytes(changed), [KEY])
