"""Networks by name, with where their figures come from; `Link` (see `link`) is one direction of one, at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voice.link import Link, LinkProfile, Series
from voice.losses import GilbertElliott

__all__ = ["PROFILES", "Link", "LinkProfile", "NetworkProfile", "Series"]


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """A network between a client and its edge.

    Attributes:
        name: as in `PROFILES`.
        up: client → edge.
        down: edge → client.
        source: where the figures come from, in words.

    """

    name: str
    up: LinkProfile
    down: LinkProfile
    source: str


_OURS: Final = "Chosen by us, not measured: "

_RECONFIGURATION: Final = Series(
    step_ms=100.0,
    extra_ms=(0.0,) * 70 + (25.0, 12.0) + (6.0,) * 38 + (3.0,) * 40,
    outage=(False,) * 70 + (True,) + (False,) * 79,
)
"""15 s: a new path after 7 s, at whose start everything is lost for 100 ms and delay settles at another level."""

PROFILES: Final[dict[str, NetworkProfile]] = {
    profile.name: profile
    for profile in (
        NetworkProfile("perfect", LinkProfile(), LinkProfile(), "No impairment: the control of every experiment."),
        NetworkProfile(
            "office-wifi",
            LinkProfile(GilbertElliott.from_loss(0.002, 1.5), 8.0, "gamma", 2.0),
            LinkProfile(GilbertElliott.from_loss(0.001, 1.5), 8.0, "gamma", 1.5),
            _OURS + "a well-covered wireless LAN on fibre; rare, nearly random loss and little jitter.",
        ),
        NetworkProfile(
            "lte-good",
            LinkProfile(GilbertElliott.from_loss(0.003, 2.0), 28.0, "gamma", 5.0, rate_kbps=10_000),
            LinkProfile(GilbertElliott.from_loss(0.002, 2.0), 22.0, "gamma", 4.0, rate_kbps=30_000),
            _OURS + "LTE with good signal; the uplink waits for scheduling grants, so its delay and jitter are larger.",
        ),
        NetworkProfile(
            "lte-edge",
            LinkProfile(
                GilbertElliott.from_loss(0.04, 4.0),
                50.0,
                "pareto",
                14.0,
                jitter_shape=2.5,
                jitter_max_ms=400.0,
                rate_kbps=600,
            ),
            LinkProfile(
                GilbertElliott.from_loss(0.025, 3.0),
                45.0,
                "pareto",
                10.0,
                jitter_shape=2.5,
                jitter_max_ms=400.0,
                rate_kbps=1_500,
            ),
            _OURS + "LTE at the edge of a cell; bursts of loss and a heavy tail of delay from link-layer repeats.",
        ),
        NetworkProfile(
            "hotel-wifi",
            LinkProfile(
                GilbertElliott.from_loss(0.02, 3.0),
                20.0,
                "pareto",
                10.0,
                jitter_shape=2.2,
                jitter_max_ms=300.0,
                reorder=0.002,
                reorder_ms=45.0,
                duplicate=0.001,
                rate_kbps=1_000,
            ),
            LinkProfile(
                GilbertElliott.from_loss(0.015, 3.0),
                20.0,
                "pareto",
                8.0,
                jitter_shape=2.2,
                jitter_max_ms=300.0,
                reorder=0.002,
                reorder_ms=45.0,
                duplicate=0.001,
                rate_kbps=2_000,
            ),
            _OURS + "a crowded access point; contention, some reordering, some duplicates from lost acknowledgements.",
        ),
        NetworkProfile(
            "starlink",
            LinkProfile(
                GilbertElliott.from_loss(0.006, 3.0),
                24.0,
                "gamma",
                5.0,
                series=_RECONFIGURATION,
            ),
            LinkProfile(
                GilbertElliott.from_loss(0.005, 3.0),
                22.0,
                "gamma",
                4.0,
                series=_RECONFIGURATION,
            ),
            _OURS
            + "the shape follows the publicly reported 15 s reconfiguration interval of the constellation, at whose "
            "start delay steps and packets are lost; the sizes of the steps are invented.",
        ),
        NetworkProfile(
            "3g",
            LinkProfile(
                GilbertElliott.from_loss(0.015, 2.5),
                90.0,
                "gamma",
                20.0,
                jitter_shape=1.5,
                rate_kbps=330,
                queue_ms=400.0,
            ),
            LinkProfile(
                GilbertElliott.from_loss(0.01, 2.5),
                80.0,
                "gamma",
                15.0,
                jitter_shape=1.5,
                rate_kbps=780,
                queue_ms=400.0,
            ),
            _OURS + "a slow, long-delay link with a long queue that the call itself does not fill.",
        ),
    )
}
