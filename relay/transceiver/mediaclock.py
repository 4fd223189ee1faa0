"""When was that said? Media time to wall clock by the packets that were delayed least.

A packet cannot leave before its last sample was spoken. So arrival − (media time of its end) is the way's delay plus a
constant, and the smallest value seen is the way's delay at its best. Mapping by that minimum tells when a sample would
have arrived on a quiet network: it holds neither queueing nor jitter buffer, which is what a turn's times must not hold.

The two clocks drift (tens of ppm), so the minimum is taken over a slow window: a run of buckets, the oldest dropped.
"""

from __future__ import annotations

from collections import deque
from typing import Final

CLOCK_RATE: Final = 48_000
BUCKET_NS: Final = 5_000_000_000
BUCKETS: Final = 6
"""30 s in all: 50 ppm make 1.5 ms over it; and a quiet moment within 30 s is all but certain."""

STEP_NS: Final = 1_000_000_000
"""An arrival off by more than this from what the mapping says is a step of a clock or of the sender's timestamps."""

_WRAP: Final = 1 << 32
_NS: Final = 1_000_000_000


class MediaClock:
    """The mapping of one RTP stream. All wall times in UTC nanoseconds by one clock."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque(maxlen=BUCKETS)  # number, minimum
        self._first: int | None = None
        self._latest = 0

    def packet(self, rtp_ts: int, samples: int, arrival_ns: int) -> None:
        """Learn from a packet that holds `samples` from `rtp_ts` on and arrived at `arrival_ns`."""
        media = self._extend(rtp_ts)
        offset = arrival_ns - (media + samples) * _NS // CLOCK_RATE
        if self._buckets and abs(offset - self._minimum()) > STEP_NS:
            self._buckets.clear()
        bucket = arrival_ns // BUCKET_NS
        if not self._buckets or self._buckets[-1][0] < bucket:
            self._buckets.append((bucket, offset))
        elif offset < self._buckets[-1][1]:
            self._buckets[-1] = (self._buckets[-1][0], offset)

    def at_ns(self, rtp_ts: int) -> int | None:
        """When the instant just before sample `rtp_ts` would arrive undelayed; None before the first packet."""
        if not self._buckets:
            return None
        return self._minimum() + self._extend(rtp_ts) * _NS // CLOCK_RATE

    def audio_ms(self, rtp_ts: int) -> float:
        """Position of sample `rtp_ts` on the stream's media clock, 0 at its first packet."""
        return (self._extend(rtp_ts) - (self._first or 0)) * 1000 / CLOCK_RATE

    def _minimum(self) -> int:
        return min(offset for _, offset in self._buckets)

    def _extend(self, rtp_ts: int) -> int:
        """Return `rtp_ts` unwrapped: the value nearest to the latest one."""
        if self._first is None:
            self._first = self._latest = rtp_ts
            return rtp_ts
        delta = (rtp_ts - self._latest + _WRAP // 2) % _WRAP - _WRAP // 2
        extended = self._latest + delta
        self._latest = max(self._latest, extended)
        return extended
