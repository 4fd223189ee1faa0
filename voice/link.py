"""One direction of a network that spoils packets on purpose, reproducibly.

A packet's way through a `Link`: bottleneck (rate and a tail-drop queue) → loss (Gilbert-Elliott) → delay (base, a
recorded series, jitter) → reordering → duplication. Given the seed and the calls, the outcome is fixed. Each packet
takes the same number of draws from each generator whatever happens to it, so the n-th packet's loss depends on the
seed and n alone: delays can be changed and the losses stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from voice.losses import GilbertElliott, LossProcess

_MS: Final = 1_000_000
_BITS: Final = 8

Jitter = Literal["none", "normal", "gamma", "pareto"]


@dataclass(frozen=True, slots=True)
class Series:
    """A recorded delay and loss series, stepped through in time and repeated.

    Attributes:
        step_ms: how long each entry holds.
        extra_ms: delay to add, one entry a step.
        outage: whether everything is lost in that step; empty, or as long as `extra_ms`.

    """

    step_ms: float
    extra_ms: tuple[float, ...]
    outage: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if self.step_ms <= 0 or not self.extra_ms or min(self.extra_ms) < 0:
            raise ValueError("a series needs a positive step and at least one delay, none negative")
        if self.outage and len(self.outage) != len(self.extra_ms):
            raise ValueError(f"{len(self.outage)} outage entries for {len(self.extra_ms)} delays")

    def at(self, elapsed_ns: int) -> tuple[float, bool]:
        """Extra delay in ms and whether the link is down, `elapsed_ns` after the link's first packet."""
        index = int(elapsed_ns / (self.step_ms * _MS)) % len(self.extra_ms)
        return self.extra_ms[index], bool(self.outage) and self.outage[index]


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """One direction of a network.

    Attributes:
        loss: None loses nothing.
        delay_ms: one-way delay that every packet has.
        jitter: distribution of the delay added to it.
        jitter_ms: its scale: standard deviation of the normal (cut at 0), mean of gamma and pareto.
        jitter_shape: shape of gamma and pareto (pareto: tail index above 1, Lomax form).
        jitter_max_ms: the added delay is cut here.
        keep_order: a packet never overtakes the one before it (one queue), but for `reorder`.
        reorder: probability that a packet is held back by `reorder_ms` while later ones pass.
        reorder_ms: how long.
        duplicate: probability that a second copy follows, 1 ms later.
        rate_kbps: bottleneck; None is unlimited.
        queue_ms: a packet that would wait longer than this for the bottleneck is dropped.
        series: recorded delays and outages on top.

    """

    loss: GilbertElliott | None = None
    delay_ms: float = 0.0
    jitter: Jitter = "none"
    jitter_ms: float = 0.0
    jitter_shape: float = 2.0
    jitter_max_ms: float = 1000.0
    keep_order: bool = True
    reorder: float = 0.0
    reorder_ms: float = 0.0
    duplicate: float = 0.0
    rate_kbps: float | None = None
    queue_ms: float = 200.0
    series: Series | None = None

    def __post_init__(self) -> None:
        for name in ("delay_ms", "jitter_ms", "jitter_max_ms", "reorder_ms", "queue_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a duration, not {getattr(self, name)}")
        for name in ("reorder", "duplicate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, not {getattr(self, name)}")
        if self.rate_kbps is not None and self.rate_kbps <= 0:
            raise ValueError(f"rate_kbps must be positive or None, not {self.rate_kbps}")
        if self.jitter_shape <= (1.0 if self.jitter == "pareto" else 0.0):
            raise ValueError(f"a {self.jitter} jitter needs a larger shape than {self.jitter_shape}")


class Link:
    """One direction of a network, as a machine: packets in, delivery times out.

    Attributes:
        sent: packets given to `send`.
        lost: of them never delivered, for whatever reason (the next three add up to it).
        lost_in_transit: by the loss model.
        lost_in_queue: because the bottleneck's queue was full.
        lost_in_outage: because the series says the link is down.
        duplicated: second copies delivered.
        reordered: packets held back so that others might pass.

    """

    def __init__(self, profile: LinkProfile, seed: int) -> None:
        self.profile = profile
        self.sent = self.lost = self.duplicated = self.reordered = 0
        self.lost_in_transit = self.lost_in_queue = self.lost_in_outage = 0
        state, loss, jitter, reorder, duplicate = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
        )
        self._losses = None if profile.loss is None else LossProcess(profile.loss, state, loss)
        self._jitter_rng = jitter
        self._reorder_rng = reorder
        self._duplicate_rng = duplicate
        self._start_ns: int | None = None
        self._free_ns = 0
        self._last_ns = 0

    def send(self, now_ns: int, size_bytes: int) -> tuple[int, ...]:
        """Give the link one packet.

        Args:
            now_ns: when; must not go back.
            size_bytes: its size, for the bottleneck.

        Returns:
            The delivery times: none if lost, two if duplicated; never before `now_ns`.

        """
        profile = self.profile
        self.sent += 1
        if self._start_ns is None:
            self._start_ns = now_ns
        lost = self._losses is not None and self._losses.lost()
        jitter_ms = self._draw_jitter()
        held_back = profile.reorder > 0.0 and self._reorder_rng.random() < profile.reorder
        doubled = profile.duplicate > 0.0 and self._duplicate_rng.random() < profile.duplicate
        series_ms, down = (0.0, False) if profile.series is None else profile.series.at(now_ns - self._start_ns)

        leaves_ns = self._through_bottleneck(now_ns, size_bytes)
        if leaves_ns is None:
            self.lost_in_queue += 1
        elif down:
            self.lost_in_outage += 1
        elif lost:
            self.lost_in_transit += 1
        if leaves_ns is None or down or lost:
            self.lost += 1
            return ()
        arrives_ns = leaves_ns + round((profile.delay_ms + series_ms + jitter_ms) * _MS)
        if held_back:
            self.reordered += 1
            arrives_ns += round(profile.reorder_ms * _MS)
        elif profile.keep_order:
            arrives_ns = max(arrives_ns, self._last_ns)
            self._last_ns = arrives_ns
        if doubled:
            self.duplicated += 1
            return (arrives_ns, arrives_ns + _MS)
        return (arrives_ns,)

    def _through_bottleneck(self, now_ns: int, size_bytes: int) -> int | None:
        if self.profile.rate_kbps is None:
            return now_ns
        starts_ns = max(now_ns, self._free_ns)
        if starts_ns - now_ns > self.profile.queue_ms * _MS:
            return None
        self._free_ns = starts_ns + round(size_bytes * _BITS * _MS / self.profile.rate_kbps)
        return self._free_ns

    def _draw_jitter(self) -> float:
        profile, rng = self.profile, self._jitter_rng
        if profile.jitter == "none":
            return 0.0
        if profile.jitter == "normal":
            drawn = rng.normal(0.0, profile.jitter_ms)
        elif profile.jitter == "gamma":
            drawn = rng.gamma(profile.jitter_shape, profile.jitter_ms / profile.jitter_shape)
        else:  # Lomax: its mean is scale ÷ (shape - 1)
            drawn = rng.pareto(profile.jitter_shape) * profile.jitter_ms * (profile.jitter_shape - 1.0)
        return float(min(max(drawn, 0.0), profile.jitter_max_ms))
