"""Exact account of what happened to every RTP packet of a stream on an impaired path."""

from __future__ import annotations

import bisect
import heapq
from dataclasses import replace
from typing import Final

from relay.caller.records import StreamInjected

_HALF: Final = 1 << 15
_MOD: Final = 1 << 16


class StreamLedger:
    """Packets of one stream in one direction: put in, arrived, lost, and on which side of the arrivals.

    The loss that a receiver can measure lies between the lowest and the highest number that arrived
    (`voice.sequence`: a late first packet moves the base down), so losses are kept apart by where they fall. Memory is
    bounded by the losses at the two ends.
    """

    def __init__(self, ssrc: int) -> None:
        self._count = StreamInjected(ssrc)
        self._last: int | None = None
        self._lowest: int | None = None
        self._highest = -1
        self._below: list[int] = []
        """Lost before the lowest arrival, ascending."""
        self._above: list[int] = []
        """Lost after the highest arrival; a heap, least first."""

    def sent(self, sequence: int) -> int:
        """Count a packet put on the path; returns its extended sequence number (RFC 3550 A.1, no reordering assumed).

        The sender's end sees packets in order, so the nearest number to the last one is the right one.
        """
        if self._last is None:
            self._last = sequence + _MOD  # room below, should a first packet not be the lowest
        else:
            self._last += (sequence - self._last + _HALF) % _MOD - _HALF
        self._count.sent += 1
        return self._last

    def arrived(self, ext_seq: int, *, again: bool) -> None:
        """Count a copy of a packet that arrived; `again` if another copy had arrived before."""
        if again:
            self._count.duplicates += 1
            return
        self._count.delivered += 1
        self._highest = max(self._highest, ext_seq)
        while self._above and self._above[0] < self._highest:
            lost = heapq.heappop(self._above)
            if self._lowest is None:
                self._below.append(lost)
            else:
                self._count.lost_seen += 1
        self._lowest = ext_seq if self._lowest is None else min(self._lowest, ext_seq)
        while self._below and self._below[-1] > self._lowest:
            self._below.pop()
            self._count.lost_seen += 1

    def lost(self, ext_seq: int) -> None:
        """Count a packet of which no copy will ever arrive."""
        if self._lowest is None or ext_seq > self._highest:
            heapq.heappush(self._above, ext_seq)
        elif ext_seq < self._lowest:
            bisect.insort(self._below, ext_seq)
        else:
            self._count.lost_seen += 1

    def report(self) -> StreamInjected:
        """The account so far. Where nothing ever arrived every loss is trailing."""
        return replace(self._count, lost_leading=len(self._below), lost_trailing=len(self._above))
