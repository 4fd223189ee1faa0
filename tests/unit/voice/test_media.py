"""Both receive paths over the same packets, as the benchmark has them, in small: what each loses, and how it sounds."""

from __future__ import annotations

from functools import cache

import pytest

from bench.media import Network, Stream, compare
from voice.link import LinkProfile, Series
from voice.losses import GilbertElliott

STALL = Series(20.0, (0.0,) * 200 + tuple(300.0 - 20.0 * step for step in range(15)) + (0.0,) * 2000)

NETWORKS = {
    "still": LinkProfile(delay_ms=30.0),
    "random loss": LinkProfile(GilbertElliott.from_loss(0.05, 1 / 0.95), delay_ms=30.0),
    "bursts": LinkProfile(GilbertElliott.from_loss(0.05, 3.0), delay_ms=30.0, jitter="gamma", jitter_ms=10.0),
    "stall": LinkProfile(delay_ms=30.0, series=STALL),
}


@cache
def stream() -> Stream:
    return Stream(pieces=2)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_ours_sounds_no_worse_waits_less_and_throws_less_away(name: str) -> None:
    found = compare(Network(name, NETWORKS[name]), stream(), seed=3)
    ours, stock = found["ours"], found["stock"]
    # After a stall stock says everything with the stall's delay for ever; catching up is heard, a little.
    assert ours["pesq"] >= stock["pesq"] - (0.2 if name == "stall" else 0.01)  # type: ignore[operator]
    assert ours["delay_added_ms_p50"] < stock["delay_added_ms_p50"]  # type: ignore[operator]
    assert ours["discarded"] <= stock["discarded"]  # type: ignore[operator]
    assert ours["discarded"] == 0


def test_redundancy_repairs_most_of_what_random_loss_takes() -> None:
    ours = compare(Network("random loss", NETWORKS["random loss"]), stream(), seed=3)["ours"]
    assert ours["fec_recovered"] > ours["concealed"]  # type: ignore[operator]
    assert abs(ours["fec_recovered"] + ours["concealed"] - ours["lost"]) <= 3  # type: ignore[operator]
