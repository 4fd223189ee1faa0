"""The delay statistics that playout waits by."""

from __future__ import annotations

import pytest

from voice.delays import Delays

MS = 1_000_000


def make(**settings: float) -> Delays:
    values = {"start_ms": 40.0, "min_ms": 20.0, "max_ms": 240.0, "quantile": 0.97, "forget": 0.995} | settings
    return Delays(**values)


def observe(delays: Delays, *transits_ms: float, start: int = 0) -> None:
    for index, transit in enumerate(transits_ms):
        delays.observe(round(transit * MS), (start + index) * 20 * MS)


def test_the_target_starts_where_it_is_told_and_falls_to_the_least() -> None:
    delays = make()
    assert delays.target_ms == 40.0
    observe(delays, *[500.0] * 100)
    assert delays.target_ms == 20.0


def test_the_target_covers_the_quantile() -> None:
    delays = make()
    observe(delays, *([0.0] * 9 + [60.0]) * 100)
    assert delays.target_ms == 65.0  # the upper edge of the bucket


def test_rarer_delays_than_the_quantile_admits_do_not_count() -> None:
    delays = make()
    observe(delays, *([0.0] * 99 + [60.0]) * 20)
    assert delays.target_ms == 20.0


def test_the_target_is_limited() -> None:
    delays = make()
    observe(delays, *[0.0, 900.0] * 100)
    assert delays.target_ms == 240.0


def test_absolute_transit_means_nothing() -> None:
    here, there = make(), make()
    transits = [float(index * 7 % 50) for index in range(500)]
    observe(here, *transits)
    observe(there, *[transit - 3_000_000 for transit in transits])
    assert here.target_ms == there.target_ms


def test_a_longer_route_becomes_the_base_after_some_seconds() -> None:
    delays = make()
    observe(delays, *[0.0] * 500, *[60.0] * 600)
    assert delays.base_ns == 60 * MS
    assert delays.target_ms == 20.0


def test_a_shorter_route_is_the_base_at_once_and_the_past_is_not_forgotten() -> None:
    delays = make()
    observe(delays, *[60.0] * 500)
    observe(delays, 0.0, start=500)
    assert delays.base_ns == 0
    assert delays.target_ms == 65.0


def test_a_long_call_does_not_overflow_its_weights() -> None:
    delays = make(forget=0.5)
    observe(delays, *[0.0] * 5000)
    assert delays.target_ms == 20.0


@pytest.mark.parametrize(
    "settings", [{"min_ms": 50.0}, {"max_ms": 30.0}, {"quantile": 1.0}, {"forget": 0.0}, {"forget": 1.0}]
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"targets must not fall|lie between"):
        make(**settings)
