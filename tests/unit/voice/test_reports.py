"""Reordering and RTCP arithmetic against published vectors."""

from __future__ import annotations

import pytest

from voice.reordering import reordered
from voice.rtcp import IntegerJitter, round_trip_s


@pytest.mark.parametrize(
    ("order", "extents"),
    [
        ([1, 10, 2, 3, 4, 5], {2: 1, 3: 2, 4: 3, 5: 4}),
        ([1, 2, 3, 7, 8, 9, 4, 5, 6, 10], {4: 3, 5: 4, 6: 5}),
        ([1, 2, 4, 5], {}),
        ([], {}),
    ],
)
def test_reordering_extents(order: list[int], extents: dict[int, int]) -> None:
    assert {order[packet.at]: packet.extent for packet in reordered(order)} == extents


def test_late_time_is_measured_from_the_first_overtaker() -> None:
    assert [packet.late_ns for packet in reordered([1, 3, 4, 2], [0, 10, 25, 40])] == [30]


def test_integer_jitter_vector() -> None:
    jitter = IntegerJitter()
    reports = []
    for rtp_ts, arrival_ms in ((0, 0), (160, 30), (320, 50)):
        reports.append((jitter.receive(arrival_ms * 8, rtp_ts), jitter.state))
    assert reports == [(0, 0), (5, 80), (4, 75)]


def test_round_trip_vector() -> None:
    assert round_trip_s(0xB7108000, 0xB7052000, 0x00054000) == 6.125


def test_a_round_trip_without_a_sender_report_is_unknown() -> None:
    assert round_trip_s(0xB7108000, 0, 0) is None


def test_a_round_trip_is_never_negative() -> None:
    assert round_trip_s(100, 90, 11) == 0.0
