"""The impairer: the same seed gives the same network, and each impairment does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.losses import GilbertElliott
from voice.netem import PROFILES, Link, LinkProfile, NetworkProfile, Series

MS = 1_000_000
PACKETS = 2_000

Deliveries = list[tuple[int, ...]]


def send(link: Link, packets: int = PACKETS, every_ms: int = 20, size: int = 200) -> Deliveries:
    return [link.send(index * every_ms * MS, size) for index in range(packets)]


def delays_ms(deliveries: Deliveries, every_ms: int = 20) -> list[float]:
    return [times[0] / MS - index * every_ms for index, times in enumerate(deliveries) if times]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_reproducible_and_its_counters_add_up(name: str) -> None:
    profile = PROFILES[name]
    for direction in (profile.up, profile.down):
        link = Link(direction, seed=3)
        deliveries = send(link)
        assert deliveries == send(Link(direction, seed=3))
        assert link.sent == PACKETS
        assert link.lost == sum(not times for times in deliveries)
        assert link.lost == link.lost_in_transit + link.lost_in_queue + link.lost_in_outage
        assert link.duplicated == sum(len(times) == 2 for times in deliveries)
        assert all(time >= index * 20 * MS for index, times in enumerate(deliveries) for time in times)


@pytest.mark.parametrize("name", sorted(set(PROFILES) - {"perfect"}))
def test_a_profile_loses_what_its_model_says_over_a_long_call(name: str) -> None:
    profile = PROFILES[name].up
    assert profile.loss is not None
    link = Link(profile, seed=11)
    send(link, packets=40_000)
    assert link.lost_in_transit / link.sent == pytest.approx(profile.loss.loss, rel=0.25)
    assert link.lost_in_queue == 0


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: str(profile.name))
def test_a_profile_says_where_its_figures_come_from(profile: NetworkProfile) -> None:
    assert PROFILES[profile.name] is profile
    assert len(profile.source) > 30


def test_the_perfect_network_does_nothing() -> None:
    assert delays_ms(send(Link(PROFILES["perfect"].up, 0))) == [0.0] * PACKETS


def test_losses_stay_when_everything_else_changes() -> None:
    loss = GilbertElliott.from_loss(0.1, 3.0)
    plain = send(Link(LinkProfile(loss), 5))
    spoiled = Link(
        LinkProfile(loss, 40.0, "gamma", 10.0, reorder=0.1, reorder_ms=50.0, duplicate=0.1, rate_kbps=5_000), 5
    )
    other_times = send(spoiled, every_ms=33, size=900)
    assert [not times for times in plain] == [not times for times in other_times]


def test_another_seed_is_another_network() -> None:
    profile = PROFILES["hotel-wifi"].up
    assert send(Link(profile, 1)) != send(Link(profile, 2))


@pytest.mark.parametrize(
    ("jitter", "mean_ms"), [("gamma", 10.0), ("pareto", 10.0), ("normal", 10.0 / np.sqrt(2 * np.pi)), ("none", 0.0)]
)
def test_jitter_has_the_mean_it_should(jitter: str, mean_ms: float) -> None:
    profile = LinkProfile(None, 30.0, jitter, 10.0, jitter_shape=3.0, keep_order=False)  # type: ignore[arg-type]
    measured = delays_ms(send(Link(profile, 2), packets=20_000))
    assert np.mean(measured) == pytest.approx(30.0 + mean_ms, rel=0.05)
    assert min(measured) >= 30.0


def test_jitter_is_cut() -> None:
    profile = LinkProfile(None, 0.0, "pareto", 50.0, jitter_shape=1.5, jitter_max_ms=80.0, keep_order=False)
    assert max(delays_ms(send(Link(profile, 2)))) == pytest.approx(80.0)


def test_a_queue_keeps_order_and_held_back_packets_lose_it() -> None:
    kept = Link(LinkProfile(None, 10.0, "gamma", 30.0), 4)
    times = [arrival[0] for arrival in send(kept)]
    assert times == sorted(times)
    assert kept.reordered == 0
    mixed = Link(LinkProfile(None, 10.0, reorder=0.05, reorder_ms=45.0), 4)
    times = [arrival[0] for arrival in send(mixed)]
    assert times != sorted(times)
    assert mixed.reordered == sum(delay > 50 for delay in delays_ms([(time,) for time in times]))


def test_the_bottleneck_delays_and_drops() -> None:
    link = Link(LinkProfile(rate_kbps=80.0, queue_ms=100.0), 0)  # 200 octets take 20 ms
    burst = [link.send(0, 200) for _ in range(10)]
    assert [times[0] // MS for times in burst if times] == [20, 40, 60, 80, 100, 120]
    assert (link.lost_in_queue, link.lost) == (4, 4)
    assert link.send(200 * MS, 200) == (220 * MS,)


def test_a_series_repeats_from_the_first_packet() -> None:
    series = Series(step_ms=40.0, extra_ms=(0.0, 30.0, 5.0), outage=(False, False, True))
    link = Link(LinkProfile(series=series), 0)
    start = 1_700_000_000_000 * MS
    got = [link.send(start + index * 20 * MS, 100) for index in range(8)]
    extra = [(times[0] - start) // MS - index * 20 if times else None for index, times in enumerate(got)]
    assert extra == [0, 0, 30, 30, None, None, 0, 0]
    assert link.lost_in_outage == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60 * MS), st.integers(1, 1500)), max_size=80),
    st.sampled_from(sorted(PROFILES)),
    st.integers(0, 2**31),
)
def test_no_packet_arrives_before_it_is_sent(packets: list[tuple[int, int]], name: str, seed: int) -> None:
    link, again = Link(PROFILES[name].down, seed), Link(PROFILES[name].down, seed)
    now = 0
    for wait, size in packets:
        now += wait
        times = link.send(now, size)
        assert len(times) <= 2
        assert all(time >= now for time in times)
        assert times == again.send(now, size)
    assert link.sent == len(packets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay_ms": -1.0}, "delay_ms is a duration"),
        ({"duplicate": 1.5}, "duplicate is a probability"),
        ({"rate_kbps": 0.0}, "rate_kbps must be positive"),
        ({"jitter": "pareto", "jitter_shape": 1.0}, "larger shape"),
    ],
)
def test_impossible_links_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinkProfile(**settings)  # type: ignore[arg-type]


def test_impossible_series_are_refused() -> None:
    with pytest.raises(ValueError, match="positive step"):
        Series(0.0, (1.0,))
    with pytest.raises(ValueError, match="2 outage entries for 1 delays"):
        Series(20.0, (1.0,), (True, False))
