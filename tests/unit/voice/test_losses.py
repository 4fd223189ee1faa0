"""Loss models and burst metrics: published vectors, and models drawn and fitted back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.bursts import Fate, cluster, xr_metrics
from voice.losses import GilbertElliott, LossProcess, summarise


def fates(text: str) -> list[Fate]:
    return [{"1": Fate.RECEIVED, "0": Fate.LOST, "X": Fate.DISCARDED}[letter] for letter in text]


def draw(model: GilbertElliott, packets: int, seed: int = 1) -> list[bool]:
    state, loss = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    process = LossProcess(model, state, loss)
    return [process.lost() for _ in range(packets)]


def test_summary_vector() -> None:
    summary = summarise([letter == "0" for letter in "1101111100011111"])
    assert (summary.packets, summary.lost, summary.loss, summary.mean_burst) == (16, 4, 0.25, 2.0)
    assert summary.burst_ratio == pytest.approx(1.5)
    assert summary.model is not None
    assert summary.model.burst_ratio == pytest.approx(1.467, abs=5e-4)  # counting transitions: an edge effect


def test_four_parameters_from_moments_vector() -> None:
    model = GilbertElliott.from_moments(loss=0.6, bad_share=0.7, mean_burst=3.0, h=0.55)
    assert (model.p, model.r, model.k) == pytest.approx((0.1667, 0.0714, 0.05), abs=5e-5)
    assert (model.loss, model.bad_share, model.mean_burst) == pytest.approx((0.6, 0.7, 3.0))


def test_two_parameters_from_loss_and_burst() -> None:
    model = GilbertElliott.from_loss(0.04, 4.0)
    assert (model.loss, model.mean_burst) == pytest.approx((0.04, 4.0))
    assert model.burst_ratio == pytest.approx(1 / (model.p + model.r))


def test_what_a_series_cannot_say_is_none() -> None:
    nothing_lost = summarise([False] * 5)
    assert (nothing_lost.loss, nothing_lost.p) == (0.0, 0.0)
    assert (nothing_lost.mean_burst, nothing_lost.burst_ratio, nothing_lost.r, nothing_lost.model) == (None,) * 4
    assert summarise([]).loss is None
    assert summarise([True]).r is None


def test_a_long_draw_fits_its_model() -> None:
    model = GilbertElliott.from_loss(0.05, 3.0)
    summary = summarise(draw(model, 200_000))
    assert summary.loss == pytest.approx(0.05, rel=0.05)
    assert summary.mean_burst == pytest.approx(3.0, rel=0.05)
    assert summary.p == pytest.approx(model.p, rel=0.05)
    assert summary.r == pytest.approx(model.r, rel=0.05)


def test_a_draw_depends_on_the_seed_only() -> None:
    model = GilbertElliott.from_loss(0.2, 3.0)
    assert draw(model, 1000, 7) == draw(model, 1000, 7)
    assert draw(model, 1000, 7) != draw(model, 1000, 8)


def test_the_chain_moves_alike_whatever_its_states_lose() -> None:
    all_bad_lost = draw(GilbertElliott(0.1, 0.3), 2000)
    some_bad_lost = draw(GilbertElliott(0.1, 0.3, h=0.5), 2000)
    assert sum(some_bad_lost) < sum(all_bad_lost)
    assert all(full or not partial for full, partial in zip(all_bad_lost, some_bad_lost, strict=True))


@pytest.mark.parametrize("parameters", [(-0.1, 0.5), (0.1, 1.5), (0.0, 0.0)])
def test_impossible_models_are_refused(parameters: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"probability|never moves"):
        GilbertElliott(*parameters)


def test_a_high_loss_in_short_bursts_is_no_chain() -> None:
    with pytest.raises(ValueError, match="p is a probability"):
        GilbertElliott.from_loss(0.9, 1.0)


def test_burst_vector_by_definition() -> None:
    clusters = cluster(fates("11110111111111111111111X111X1011110111111111111111111X1111111111"))
    assert [length * 10 for _, length in clusters.bursts] == [120]
    assert [length * 10 for _, length in clusters.gaps] == [230, 290]
    assert clusters.burst_density == pytest.approx(4 / 12)
    assert clusters.gap_density == pytest.approx(2 / 52)


def test_burst_vector_by_counters() -> None:
    metrics = xr_metrics(fates("111011100011X"), packet_ms=10, gmin=2)
    assert (metrics.loss_rate, metrics.discard_rate) == (78, 19)
    assert (metrics.burst_density, metrics.gap_density) == (255, 51)
    assert (metrics.burst_ms, metrics.gap_ms) == (30, 110)


def test_a_series_without_loss_is_one_gap() -> None:
    clusters = cluster(fates("1" * 20))
    assert (clusters.bursts, clusters.gaps, clusters.gap_density) == ((), ((0, 20),), 0.0)
    assert clusters.burst_density is None
    assert xr_metrics(fates("1" * 20), 20).gap_ms == 400


@settings(deadline=None)
@given(st.lists(st.sampled_from(Fate), max_size=200), st.integers(1, 20))
def test_bursts_and_gaps_tile_the_series(series: list[Fate], gmin: int) -> None:
    clusters = cluster(series, gmin)
    runs = sorted(clusters.bursts + clusters.gaps)
    at = 0
    for first, length in runs:
        assert (first, length > 0) == (at, True)
        at += length
    assert at == len(series)
    assert clusters.bad_in_bursts + clusters.bad_in_gaps == sum(fate is not Fate.RECEIVED for fate in series)
    metrics = xr_metrics(series, 20, gmin)
    assert 0 <= metrics.burst_density <= 255
    assert metrics.burst_ms >= 0
