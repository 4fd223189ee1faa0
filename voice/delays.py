"""How late packets come, and how long playout should therefore wait.

Transit is arrival minus media time: its absolute value means nothing (two clocks), its differences do. The smallest
transit of the last seconds is the base; a packet's delay is its transit above the base (PDV, RFC 5481 §4.2). Because
the base is windowed, a drift between the two clocks or a new route moves it along. The quantile has a long memory, so
that rare long delays are counted on while they go on; once none has come in the window, they are over.
"""

from __future__ import annotations

from typing import Final

_MS: Final = 1_000_000
_BUCKET_MS: Final = 5
_BUCKET_NS: Final = _BUCKET_MS * _MS
_HALF_WINDOW_NS: Final = 5_000_000_000  # the base is the minimum, and the target at most the maximum, of 5 to 10 s
_RESCALE: Final = 1e9


class Delays:
    """A forgetting histogram of packets' delay, and its quantile.

    Args:
        start_ms: one pretended packet had this delay, so that the target starts here.
        min_ms: lowest target.
        max_ms: highest target; longer delays count as this one.
        quantile: share of packets that the target covers.
        forget: a packet weighs this much less with each later one.

    """

    def __init__(self, start_ms: float, min_ms: float, max_ms: float, quantile: float, forget: float) -> None:
        if not 0 <= min_ms <= start_ms <= max_ms:
            raise ValueError(f"targets must not fall: min {min_ms}, start {start_ms}, max {max_ms} ms")
        if not 0.0 < quantile < 1.0 or not 0.0 < forget < 1.0:
            raise ValueError(f"quantile {quantile} and forget {forget} lie between 0 and 1")
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._tail = 1.0 - quantile
        self._forget = forget
        self._weights = [0.0] * (int(max_ms / _BUCKET_MS) + 1)
        self._weights[min(len(self._weights) - 1, int(start_ms / _BUCKET_MS))] = 1.0
        self._weight = 1.0  # of the next packet: growing it is cheaper than shrinking all the others
        self._window_start_ns: int | None = None
        self._minimum_ns = 0
        self._previous_minimum_ns: int | None = None
        self._maximum_ns = 0
        self._previous_maximum_ns: int | None = None
        self._histogram_base_ns = 0
        self.base_ns: int | None = None
        """Smallest recent transit; None before the first packet."""
        self.target_ms = max(min_ms, start_ms)
        """Delay that covers the quantile, within the limits."""

    def observe(self, transit_ns: int, now_ns: int) -> None:
        """Take one packet's transit at `now_ns`."""
        self._move_base(transit_ns, now_ns)
        bucket = max(0, transit_ns - self._histogram_base_ns) // _BUCKET_NS
        self._weight /= self._forget
        self._weights[min(bucket, len(self._weights) - 1)] += self._weight
        if self._weight > _RESCALE:
            self._weights = [weight / self._weight for weight in self._weights]
            self._weight = 1.0
        self.target_ms = min(self._max_ms, max(self._min_ms, min(self._quantile_ms(), self._recent_ms())))

    def _quantile_ms(self) -> float:
        rest = self._tail * sum(self._weights)
        for bucket in range(len(self._weights) - 1, -1, -1):
            rest -= self._weights[bucket]
            if rest < 0.0:
                return float((bucket + 1) * _BUCKET_MS)
        return 0.0

    def _recent_ms(self) -> float:
        """Longest delay in the window, rounded up as the quantile is; no bound before the window is full once."""
        if self._previous_maximum_ns is None:
            return self._max_ms
        above_ns = max(self._previous_maximum_ns, self._maximum_ns) - self._histogram_base_ns
        return float((above_ns // _BUCKET_NS + 1) * _BUCKET_MS)

    def _move_base(self, transit_ns: int, now_ns: int) -> None:
        if self.base_ns is None or self._window_start_ns is None:
            self.base_ns = self._minimum_ns = self._maximum_ns = self._histogram_base_ns = transit_ns
            self._window_start_ns = now_ns
            return
        if now_ns - self._window_start_ns >= _HALF_WINDOW_NS:
            self._previous_minimum_ns, self._minimum_ns = self._minimum_ns, transit_ns
            self._previous_maximum_ns, self._maximum_ns = self._maximum_ns, transit_ns
            self._window_start_ns = now_ns
        self._minimum_ns = min(self._minimum_ns, transit_ns)
        self._maximum_ns = max(self._maximum_ns, transit_ns)
        previous = self._previous_minimum_ns
        self.base_ns = self._minimum_ns if previous is None else min(previous, self._minimum_ns)
        # Delays were counted above the old base: keep them where they are in time.
        moved = (self.base_ns - self._histogram_base_ns) // _BUCKET_NS
        if moved:
            self._histogram_base_ns += moved * _BUCKET_NS
            self._shift(moved)

    def _shift(self, buckets: int) -> None:
        shifted = [0.0] * len(self._weights)
        last = len(shifted) - 1
        for bucket, weight in enumerate(self._weights):
            shifted[min(last, max(0, bucket - buckets))] += weight
        self._weights = shifted
