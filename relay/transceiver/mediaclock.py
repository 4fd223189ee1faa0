"""When was that said? Media time to our clock by the packets that were delayed least.

A packet cannot leave before its last sample was spoken. So its arrival less the media time of its end is the delay
plus a constant, and the smallest value seen is the delay at its best. Mapping by that minimum tells when a sample
would have arrived on a quiet network: it holds neither queueing nor jitter buffer, and neither must a turn's times.

The two clocks drift (tens of ppm), so the minimum is taken over a slow window: a run of buckets, the oldest dropped.
Our clock here is the monotonic one: the wall clock may be slewed by far more while time is being set (5,000 ppm seen
on a virtual machine), which the window would follow too late and turn into latency that nobody had.
"""

from __future__ import annotations

from collections import deque
from typing import Final

CLOCK_RATE: Final = 48_000
BUCKET_NS: Final = 5_000_000_000
BUCKETS: Final = 6
"""30 s in all: 50 ppm make 1.5 ms over it; and a quiet moment within 30 s is all but certain."""

STEP_NS: Final = 1_000_000_000
STEP_PACKETS: Final = 50
"""So many packets on end, each later than the mapping says by more than `STEP_NS`: not delay but a step of a clock."""

_WRAP: Final = 1 << 32
_NS: Final = 1_000_000_000


class MediaClock:
    """The mapping of one RTP stream. All times of ours in nanoseconds of the monotonic clock.

    Args:
        audio_ms: position of its first sample on the media clock, which goes on where a stream before it ended.

    """

    def __init__(self, audio_ms: float = 0.0) -> None:
        self._audio_ms = audio_ms
        self._buckets: deque[tuple[int, int]] = deque(maxlen=BUCKETS)  # number, minimum
        self._minimum = 0  # over all buckets
        self._first: int | None = None
        self._latest = 0
        self._late = 0

    def packet(self, rtp_ts: int, samples: int, arrival_ns: int) -> None:
        """Learn from a packet that holds `samples` from `rtp_ts` on and arrived at `arrival_ns`."""
        if self._first is None:
            self._first = self._latest = rtp_ts
        media = self._extend(rtp_ts)
        self._latest = max(self._latest, media)
        offset = arrival_ns - (media + samples) * _NS // CLOCK_RATE
        if self._stepped(offset):
            self._buckets.clear()
        bucket = arrival_ns // BUCKET_NS
        if not self._buckets or self._buckets[-1][0] < bucket:
            self._buckets.append((bucket, offset))
            while self._buckets[0][0] <= bucket - BUCKETS:  # nothing may have come for minutes
                self._buckets.popleft()
        elif offset < self._buckets[-1][1]:
            self._buckets[-1] = (self._buckets[-1][0], offset)
        else:
            return
        self._minimum = min(offset for _, offset in self._buckets)

    def at_ns(self, rtp_ts: int) -> int | None:
        """When the instant just before sample `rtp_ts` would arrive undelayed; None before the first packet."""
        if not self._buckets:
            return None
        return self._minimum + self._extend(rtp_ts) * _NS // CLOCK_RATE

    def audio_ms(self, rtp_ts: int) -> float:
        """Position of sample `rtp_ts` on the media clock."""
        return self._audio_ms + (0 if self._first is None else self._extend(rtp_ts) - self._first) * 1000 / CLOCK_RATE

    def _stepped(self, offset: int) -> bool:
        if not self._buckets:
            return False
        excess = offset - self._minimum
        self._late = self._late + 1 if excess > STEP_NS else 0
        return self._late >= STEP_PACKETS or excess < -STEP_NS

    def _extend(self, rtp_ts: int) -> int:
        """Return `rtp_ts` unwrapped: the value nearest to the latest one."""
        return self._latest + (rtp_ts - self._latest + _WRAP // 2) % _WRAP - _WRAP // 2
