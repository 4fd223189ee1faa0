"""One direction of an impaired network: datagrams in, the same datagrams out later, twice, or never."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.caller.ledger import StreamLedger
from relay.caller.records import DirectionInjected
from voice.netem import Link
from voice.rtp import PacketKind, RtpError, classify, parse_header

QUEUE_LIMIT: Final = 4096
"""Datagrams on their way in one direction: 10 s of a voice call's packets and every copy of them."""

HEADER_BYTES: Final = 28
"""IPv4 and UDP headers, which a bottleneck carries too."""

STREAM_LIMIT: Final = 64
"""RTP streams accounted in one direction; a call has one or two."""


@dataclass(slots=True)
class _Flight:
    """A datagram of which copies are on their way."""

    data: bytes
    kind: PacketKind
    ledger: StreamLedger | None
    ext_seq: int
    copies: int
    arrived: bool = False


class Path:
    """Delays, drops and duplicates datagrams as a `Link` says, and accounts for each.

    Args:
        link: the impairment; its times are on the monotonic clock, in nanoseconds.
        deliver: hands a datagram to the receiver and says whether it was taken; must not block.

    """

    def __init__(self, link: Link, deliver: Callable[[bytes], bool]) -> None:
        self._link = link
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[int, int, _Flight]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ledgers: dict[int, StreamLedger] = {}
        self._other: dict[str, dict[str, int]] = {}
        self._overflowed = 0
        self._media = True
        self._empty = asyncio.Event()
        self._empty.set()

    def push(self, data: bytes) -> None:
        """Put a datagram on the path. Never blocks; a full queue drops it and counts it."""
        kind = classify(data)
        ledger, ext_seq = self._account(kind, data)
        now_ns = time.monotonic_ns()
        due: tuple[int, ...] = self._link.send(now_ns, len(data) + HEADER_BYTES)
        if ledger is not None and not self._media:
            due = ()
        room = QUEUE_LIMIT - len(self._heap)
        if len(due) > room:
            self._overflowed += len(due) - room
            due = due[:room]
        if not due:
            self._dropped(kind, ledger, ext_seq)
            return
        flight = _Flight(data, kind, ledger, ext_seq, len(due))
        for at_ns in due:
            # The counter keeps datagrams due at one instant in the order they were sent.
            heapq.heappush(self._heap, (at_ns, self._order, flight))
            self._order += 1
        self._empty.clear()
        self._fire()

    def change(self, link: Link) -> None:
        """Send what comes from now on over another link; what is on its way arrives as it would have."""
        self._link = link

    def stop_media(self) -> None:
        """Drop RTP on its way and from now on, as loss after the stream's last arrival; other datagrams still pass."""
        self._media = False
        on_their_way, self._heap = self._heap, []
        for entry in on_their_way:
            if entry[2].ledger is None:
                heapq.heappush(self._heap, entry)
            else:
                self._fail(entry[2])
        self._fire()

    async def drained(self) -> None:
        """Wait until nothing is on its way."""
        await self._empty.wait()

    def close(self) -> None:
        """Drop everything on its way and set no more timers."""
        self._media = False
        while self._heap:
            self._fail(self._heap.pop()[2])
        self._fire()

    def report(self) -> DirectionInjected:
        """What happened so far, packet for packet."""
        return DirectionInjected(
            streams=[ledger.report() for ledger in self._ledgers.values()],
            other={kind: dict(counts) for kind, counts in self._other.items()},
            overflowed=self._overflowed,
        )

    def arrivals(self) -> int:
        """RTP packets handed to the receiver, copies included."""
        reports = [ledger.report() for ledger in self._ledgers.values()]
        return sum(stream.delivered + stream.duplicates for stream in reports)

    def _account(self, kind: PacketKind, data: bytes) -> tuple[StreamLedger | None, int]:
        if kind is PacketKind.RTP:
            try:
                header = parse_header(data)
            except RtpError:
                kind = PacketKind.UNKNOWN
            else:
                ledger = self._ledgers.get(header.ssrc)
                if ledger is None and len(self._ledgers) < STREAM_LIMIT:
                    ledger = self._ledgers[header.ssrc] = StreamLedger(header.ssrc)
                if ledger is not None:
                    return ledger, ledger.sent(header.sequence_number)
        counts = self._other.setdefault(kind.name.lower(), {"sent": 0, "dropped": 0})
        counts["sent"] += 1
        return None, 0

    def _dropped(self, kind: PacketKind, ledger: StreamLedger | None, ext_seq: int) -> None:
        if ledger is not None:
            ledger.lost(ext_seq)
        else:
            self._other[kind.name.lower()]["dropped"] += 1

    def _fail(self, flight: _Flight) -> None:
        """One copy did not arrive; the packet is lost when it was the last and none had arrived before."""
        flight.copies -= 1
        if not flight.copies and not flight.arrived:
            self._dropped(flight.kind, flight.ledger, flight.ext_seq)

    def _fire(self) -> None:
        """Deliver what is due and wake up again for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ns = time.monotonic_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            flight = heapq.heappop(self._heap)[2]
            if not self._deliver(flight.data):
                self._fail(flight)
                continue
            flight.copies -= 1
            if flight.ledger is not None:
                flight.ledger.arrived(flight.ext_seq, again=flight.arrived)
            flight.arrived = True
        if self._heap:
            self._timer = self._loop.call_at(self._heap[0][0] / 1e9, self._fire)
        else:
            self._empty.set()
