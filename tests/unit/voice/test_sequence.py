"""Sequence statistics: RFC 3550 vectors, the sum that must hold, and the vector form against the scalar one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from voice.sequence import Arrival, Arrivals, StreamStats, receive_streams

MS = 1_000_000


def receive(stats: StreamStats, *seqs: int) -> list[Arrival]:
    return [stats.receive(seq % 65536, 0, 0) for seq in seqs]


def test_jitter_vector() -> None:
    stats = StreamStats(clock_rate=8000)
    jitters = []
    for rtp_ts, arrival_ms in ((0, 0), (160, 30), (320, 50)):
        stats.receive(rtp_ts // 160, rtp_ts, arrival_ms * MS)
        jitters.append(stats.jitter_s * 8000)
    assert jitters == pytest.approx([0.0, 5.0, 4.6875])


def test_transit_delta_is_signed_and_in_microseconds() -> None:
    stats = StreamStats()
    deltas = [
        stats.receive(seq, seq * 960, arrival).transit_delta_us
        for seq, arrival in enumerate((0, 20 * MS, 45 * MS, 60 * MS))
    ]
    assert deltas == [None, 0, 5000, -5000]


def test_timestamps_wrap() -> None:
    stats = StreamStats()
    stats.receive(1, 2**32 - 480, 0)
    assert stats.receive(2, 480, 20 * MS).transit_delta_us == 0


def test_wraparound_loses_nothing() -> None:
    stats = StreamStats()
    arrivals = receive(stats, *range(65530, 65540))
    assert (stats.received, stats.lost) == (10, 0)
    assert [arrival.ext_seq for arrival in arrivals] == list(range(65530, 65540))


def test_fraction_lost_vector() -> None:
    stats = StreamStats()
    receive(stats, 0, *range(2, 10))
    block = stats.report()
    assert (stats.lost, block.cumulative_lost, block.fraction_lost) == (1, 1, 25)
    receive(stats, *range(10, 20))
    assert stats.report().fraction_lost == 0


def test_reports_let_duplicates_hide_loss_but_lost_does_not() -> None:
    stats = StreamStats()
    receive(stats, 0, 2, 2, 2)
    assert stats.report().cumulative_lost == -1
    assert stats.lost == 1


@pytest.mark.parametrize(
    ("order", "late"),
    [((1, 10, 2, 3, 4, 5), {2, 3, 4, 5}), ((1, 2, 3, 7, 8, 9, 4, 5, 6, 10), {4, 5, 6})],
)
def test_reordered_vectors(order: tuple[int, ...], late: set[int]) -> None:
    arrivals = receive(StreamStats(), *order)
    assert {arrival.ext_seq for arrival in arrivals if arrival.reordered} == late


def test_a_late_packet_takes_its_loss_back() -> None:
    arrivals = receive(StreamStats(), 1, 4, 2, 3)
    assert [arrival.newly_lost for arrival in arrivals] == [0, 2, -1, -1]


def test_a_duplicate_says_nothing_but_that_it_is_one() -> None:
    stats = StreamStats()
    arrivals = receive(stats, 1, 2, 2, 1)
    assert [arrival.duplicate for arrival in arrivals] == [False, False, True, True]
    assert arrivals[3] == Arrival(1, None, 0, reordered=False, duplicate=True)
    assert (stats.received, stats.duplicates, stats.expected, stats.lost) == (4, 2, 2, 0)


def test_a_late_packet_twice_is_one_late_packet_and_one_duplicate() -> None:
    arrivals = receive(StreamStats(), 1, 3, 2, 2)
    assert [arrival.newly_lost for arrival in arrivals] == [0, 1, -1, 0]
    assert arrivals[3].duplicate
    assert not arrivals[3].reordered


def test_a_packet_from_before_the_first_lowers_the_base() -> None:
    stats = StreamStats()
    arrivals = receive(stats, 5, 2, 3, 4, 2)
    assert [arrival.newly_lost for arrival in arrivals] == [0, 2, -1, -1, 0]
    assert [arrival.reordered for arrival in arrivals] == [False, True, True, True, False]
    assert (stats.base, stats.expected, stats.lost) == (2, 4, 0)


def test_a_packet_from_before_zero_has_a_negative_number() -> None:
    stats = StreamStats()
    assert receive(stats, 0, 65535)[1].ext_seq == -1
    assert stats.lost == 0


def test_one_stray_changes_no_loss() -> None:
    stats = StreamStats()
    arrivals = receive(stats, 10, 40_000, 11, 12)
    assert [arrival.stray for arrival in arrivals] == [False, True, False, False]
    assert [arrival.newly_lost for arrival in arrivals] == [0, 0, 0, 0]
    assert (stats.received, stats.expected, stats.ext_max, stats.restarts) == (4, 4, 12, 0)


def test_the_same_stray_twice_is_a_duplicate() -> None:
    stats = StreamStats()
    arrivals = receive(stats, 10, 40_000, 40_000)
    assert [arrival.duplicate for arrival in arrivals] == [False, False, True]
    assert stats.lost == 0


def test_a_restart_begins_an_epoch_without_loss() -> None:
    stats = StreamStats()
    arrivals = receive(stats, 10, 11, 40_000, 40_001, 40_003, 39_999)
    assert [arrival.newly_lost for arrival in arrivals] == [0, 0, 0, 0, 1, 0]
    assert [arrival.ext_seq for arrival in arrivals] == [10, 11, 40_000 - 65536, 40_001, 40_003, 39_999]
    assert (stats.restarts, stats.lost, stats.expected) == (1, 1, 2 + 5)


def test_both_packets_that_begin_an_epoch_count_as_seen() -> None:
    stats = StreamStats()
    assert [arrival.duplicate for arrival in receive(stats, 10, 40_000, 40_001, 40_000, 40_001)][3:] == [True, True]
    assert stats.lost == 0


def test_extended_numbers_do_not_repeat_after_a_restart_with_a_lower_number() -> None:
    stats = StreamStats()
    receive(stats, 50_000, 50_001)
    arrivals = receive(stats, 10, 11)
    assert arrivals[1].ext_seq == 65_536 + 11


def test_the_limits_of_a_jump() -> None:
    assert not receive(StreamStats(), 0, 2999)[1].stray
    assert receive(StreamStats(), 0, 3000)[1].stray
    assert not receive(StreamStats(), 200, 101)[1].stray
    assert receive(StreamStats(), 200, 100)[1].stray


Packets = list[tuple[int, int, int]]


@st.composite
def streams(draw: st.DrawFn) -> Packets:
    """Mostly a voice stream with losses, late packets, copies; now and then a jump anywhere."""
    seq = draw(st.integers(0, 65535))
    step = st.one_of(
        st.just(1), st.just(1), st.just(1), st.integers(-140, 140), st.integers(2990, 3010), st.integers(0, 65535)
    )
    steps = draw(st.lists(step, max_size=300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    packets = []
    at_ns = 1_700_000_000_000_000_000
    for move in steps:
        seq = (seq + move) % 65536
        at_ns += int(rng.integers(-5 * MS, 50 * MS))
        rtp_ts = seq * 960 if move else int(rng.integers(0, 2**32))
        packets.append((seq, rtp_ts, at_ns))
    return packets


def columns(packets: Packets) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    return (
        np.array([packet[0] for packet in packets], np.uint16),
        np.array([packet[1] for packet in packets], np.uint32),
        np.array([packet[2] for packet in packets], np.int64),
    )


def rows(arrivals: Arrivals) -> list[Arrival]:
    return [
        Arrival(
            int(arrivals.ext_seq[row]),
            int(arrivals.transit_delta_us[row]) if arrivals.transit_known[row] else None,
            int(arrivals.newly_lost[row]),
            bool(arrivals.reordered[row]),
            bool(arrivals.duplicate[row]),
            bool(arrivals.stray[row]),
        )
        for row in range(len(arrivals.ext_seq))
    ]


STATE = ("received", "duplicates", "reordered", "restarts", "expected", "lost", "base", "ext_max")


@settings(deadline=None)
@given(streams())
def test_the_sum_of_newly_lost_is_what_is_missing_at_any_time(packets: Packets) -> None:
    stats = StreamStats()
    total = 0
    for packet in packets:
        arrival = stats.receive(*packet)
        total += arrival.newly_lost
        assert total == stats.lost == stats.expected - (stats.received - stats.duplicates) >= 0
        assert arrival.ext_seq % 65536 == packet[0]
        assert arrival.duplicate or arrival.stray or stats.base is not None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**60)), max_size=60))
def test_the_sum_holds_for_noise_too(packets: Packets) -> None:
    stats = StreamStats()
    assert sum(stats.receive(*packet).newly_lost for packet in packets) == stats.lost >= 0


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.integers(0, 300), max_size=3))
@example([(seq % 65536, 0, 0) for seq in range(65500, 65700)], [])
@example([(1, 0, 0)] + [(1 + seq % 7, 5, seq) for seq in range(100)], [])
def test_many_equals_one_by_one(packets: Packets, cuts: list[int]) -> None:
    one, many = StreamStats(), StreamStats()
    expected = [one.receive(*packet) for packet in packets]
    got: list[Arrival] = []
    edges = [0, *sorted(min(cut, len(packets)) for cut in cuts), len(packets)]
    for start, stop in pairwise(edges):
        got += rows(many.receive_many(*columns(packets[start:stop])))
    assert got == expected
    assert [getattr(many, name) for name in STATE] == [getattr(one, name) for name in STATE]
    assert many.jitter_s == pytest.approx(one.jitter_s, rel=1e-9, abs=1e-12)
    # What is not public must agree too: the next packets tell.
    for seq in range(0, 65536, 997):
        assert many.receive(seq, 0, 0) == one.receive(seq, 0, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(streams(), min_size=1, max_size=4), st.integers(1, 80))
@example([[(seq % 65536, seq * 960 % 2**32, seq * 20_000_000 + seq % 7) for seq in range(65400, 65700)]] * 2, 30)
def test_streams_taken_together_equal_each_by_itself(several: list[Packets], at_once: int) -> None:
    one, many = [[StreamStats() for _ in several] for _ in range(2)]
    for start in range(0, max(map(len, several)), at_once):
        parts = [packets[start : start + at_once] for packets in several]
        present = [n for n, part in enumerate(parts) if part]
        starts = np.cumsum([0, *(len(parts[n]) for n in present[:-1])])
        together = columns([packet for n in present for packet in parts[n]])
        got = rows(receive_streams([many[n] for n in present], starts, *together))
        assert got == [one[n].receive(*packet) for n in present for packet in parts[n]]
    for mine, reference in zip(many, one, strict=True):
        assert [getattr(mine, name) for name in STATE] == [getattr(reference, name) for name in STATE]
        assert mine.jitter_s == pytest.approx(reference.jitter_s, rel=1e-9, abs=1e-12)
        for seq in range(0, 65536, 997):
            assert mine.receive(seq, 0, 0) == reference.receive(seq, 0, 0)


@pytest.mark.parametrize(
    "tail",
    [
        [400, 301],  # as late as may be
        [400, 300],  # one later: a jump
        [3298],  # as far ahead as may be
        [3299],
        [299, 250, 200],  # seen before
        [400, 299, 280, 399, 399],
    ],
)
def test_the_limits_are_the_same_for_many(tail: list[int]) -> None:
    first, second = list(range(300)), [*tail, *range(tail[-1] + 1, tail[-1] + 60)]
    one, many = StreamStats(), StreamStats()
    many.receive_many(*columns([(seq, 0, 0) for seq in first]))
    expected = receive(one, *first, *second)[len(first) :]
    assert rows(many.receive_many(*columns([(seq, 0, 0) for seq in second]))) == expected
    # Everything that a late packet could be is remembered alike.
    assert one.ext_max is not None
    probes = [one.ext_max - behind for behind in range(99, -1, -1)]
    assert receive(many, *probes) == receive(one, *probes)


def test_many_of_a_long_stream_with_everything_in_it() -> None:
    rng = np.random.default_rng(5)
    seq = np.arange(60_000)
    seq = seq[rng.random(len(seq)) > 0.03]
    order = np.argsort(seq + np.where(rng.random(len(seq)) < 0.05, rng.integers(1, 60, len(seq)), 0), kind="stable")
    seq = seq[order]
    seq = np.repeat(seq, np.where(rng.random(len(seq)) < 0.01, 2, 1))
    seq[30_000:] += 20_000
    arrival = np.arange(len(seq)) * 20 * MS + rng.integers(0, 30 * MS, len(seq))
    packets = [(int(s) % 65536, int(s) * 960 % 2**32, int(t)) for s, t in zip(seq, arrival, strict=True)]
    one, many = StreamStats(), StreamStats()
    expected = [one.receive(*packet) for packet in packets]
    assert rows(many.receive_many(*columns(packets))) == expected
    assert (many.restarts, many.lost) == (one.restarts, one.lost)
    assert many.jitter_s == pytest.approx(one.jitter_s, rel=1e-9)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sequence numbers, 1 timestamps"):
        StreamStats().receive_many(np.zeros(2, np.uint16), np.zeros(1, np.uint32), np.zeros(2, np.int64))


def test_no_packets_are_no_arrivals() -> None:
    stats = StreamStats()
    assert len(stats.receive_many(*columns([])).ext_seq) == 0
    assert (stats.expected, stats.lost, stats.ext_max) == (0, 0, None)
