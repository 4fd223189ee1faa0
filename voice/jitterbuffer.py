"""A receive buffer for voice: packets in as they come, one 20 ms tick out at a time.

It keeps a playout time line in RTP time. Every tick plays the packet of its time, or conceals what is missing, and
the line moves on: a lost packet costs one concealed tick and no delay. How far the line runs behind the earliest
possible arrival (`delay_ms`) follows `target_ms`, a quantile of recent packets' delay (see `delays`): one tick is
inserted when the line runs too early, one is skipped when it runs too late, at most one in 100 ms.

The buffer expects packets of one tick each (`a=ptime:20`). It looks into payloads only for the in-band FEC flag.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from voice import opus
from voice.delays import Delays

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_TS_MOD: Final = 1 << 32
_HALF_TS: Final = 1 << 31
_RECENT: Final = 128  # played numbers remembered, to tell a duplicate from a late packet
_LATE_RUN: Final = 10  # so many late packets in a row, over
_LATE_RUN_NS: Final = 200 * _MS  # so long (a stall that ends delivers at once): the sender's time line has moved

PlayoutKind = Literal["played", "concealed", "fec_recovered", "discarded_late", "silence"]
Inserted = Literal["queued", "discarded_late", "duplicate", "overflow"]


@dataclass(frozen=True, slots=True)
class JitterBufferConfig:
    """Settings.

    Attributes:
        clock_rate: RTP clock in Hz.
        frame_ms: one tick, and one packet.
        start_ms: target before anything is known.
        min_ms: lowest target.
        max_ms: highest target.
        quantile: share of packets that shall be in time.
        forget: weight of the past in the delay statistics, per packet.
        conceal_ms: with nothing in the buffer, conceal this long, then call it silence.
        capacity: packets held at most.
        adapt_ms: shortest time between two insertions or skips.
        resync_ms: a time line further off than this is begun anew.

    """

    clock_rate: int = 48_000
    frame_ms: float = 20.0
    start_ms: float = 40.0
    min_ms: float = 20.0
    max_ms: float = 240.0
    quantile: float = 0.97
    forget: float = 0.995
    conceal_ms: float = 100.0
    capacity: int = 100
    adapt_ms: float = 100.0
    resync_ms: float = 1000.0


class Playout(NamedTuple):
    """One tick.

    Attributes:
        kind: as the `frame` fact names it; `discarded_late` is never a tick's kind here but `insert`'s answer.
        payload: to decode, if `played`.
        fec_payload: the next packet's payload, from which this tick can be decoded (`fec_recovered`).
        rtp_ts: the tick's RTP timestamp; None before the first packet and for an inserted tick.

    """

    kind: PlayoutKind
    payload: bytes | None
    fec_payload: bytes | None
    rtp_ts: int | None


@dataclass(slots=True)
class Counts:
    """Ticks by kind and packets that were not played, since the start."""

    played: int = 0
    concealed: int = 0
    fec_recovered: int = 0
    silence: int = 0
    discarded_late: int = 0
    duplicates: int = 0
    overflow: int = 0
    skipped: int = 0
    inserted: int = 0
    resyncs: int = 0


class JitterBuffer:
    """Receive buffer of one stream. Never blocks, holds at most `capacity` packets."""

    def __init__(self, config: JitterBufferConfig | None = None) -> None:
        self.config = config or JitterBufferConfig()
        self.counts = Counts()
        self._frame_ts = round(self.config.clock_rate * self.config.frame_ms / 1000)
        self._frame_ns = round(self.config.frame_ms * _MS)
        self._delays = self._new_delays()
        self._packets: list[tuple[int, int, bytes]] = []  # (unwrapped RTP time, extended number, payload), sorted
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._last_ts: int | None = None  # unwrapped RTP time of the last packet inserted
        self._next_ts: int | None = None  # unwrapped RTP time of the next tick; None until playout begins
        self._last_seq: int | None = None  # extended number of the last packet played
        self._missed = 0  # ticks without a packet since then
        self._adapted_ns: int | None = None
        self._late_run = 0
        self._late_since_ns = 0
        self._delay_ns = 0

    @property
    def buffer_ms(self) -> float:
        """Audio waiting in the buffer."""
        return len(self._packets) * self.config.frame_ms

    @property
    def target_ms(self) -> float:
        """Delay behind the earliest possible arrival that playout aims at."""
        return self._delays.target_ms

    @property
    def delay_ms(self) -> float:
        """That delay as it was at the last tick; 0 before playout begins."""
        return self._delay_ns / _MS

    def insert(self, ext_seq: int, rtp_ts: int, payload: bytes, now_ns: int) -> Inserted:
        """Take a packet.

        Args:
            ext_seq: extended sequence number.
            rtp_ts: 32-bit RTP timestamp.
            payload: decrypted Opus packet.
            now_ns: when it could be played at the earliest, on the clock of `pop`.

        Returns:
            `queued`, or why the packet will not be played; each is counted.

        """
        ts = self._unwrap(rtp_ts)
        if ext_seq in self._recent or any(held == ext_seq for _, held, _ in self._packets):
            self.counts.duplicates += 1
            return "duplicate"
        transit_ns = now_ns - self._in_ns(ts)
        if self._delays.base_ns is not None and transit_ns < self._delays.base_ns - self.config.resync_ms * _MS:
            self._resync()  # the sender's timestamps have leapt ahead
        self._delays.observe(transit_ns, now_ns)
        if self._next_ts is not None and ts + self._frame_ts // 2 <= self._next_ts:
            self.counts.discarded_late += 1
            if not self._late_run:
                self._late_since_ns = now_ns
            self._late_run += 1
            if self._late_run >= _LATE_RUN and now_ns - self._late_since_ns >= _LATE_RUN_NS:
                self._resync()
                self._delays.observe(transit_ns, now_ns)
            return "discarded_late"
        if len(self._packets) >= self.config.capacity:
            self.counts.overflow += 1
            return "overflow"
        self._late_run = 0
        insort(self._packets, (ts, ext_seq, payload))
        return "queued"

    def pop(self, now_ns: int, *, in_speech: bool = False) -> Playout:
        """Make the next tick; call it once every `frame_ms`.

        Args:
            now_ns: when the tick is due (not when a late loop gets to it).
            in_speech: the last ticks were speech, so that a skip had better wait for a pause.

        """
        if self._next_ts is None:
            if not self._ready(now_ns):
                self.counts.silence += 1
                return Playout("silence", None, None, None)
            self._next_ts = self._packets[0][0]
        excess_ns = self._excess(now_ns, self._next_ts)
        if self._may_adapt(now_ns):
            if excess_ns < -self._frame_ns // 2:
                self._adapted_ns = now_ns
                self.counts.inserted += 1
                return self._missing(None)
            if excess_ns > self._frame_ns * 3 // 2 and not (in_speech and excess_ns < 5 * self._frame_ns):
                self._adapted_ns = now_ns
                self._skip(excess_ns)
        return self._tick()

    def _tick(self) -> Playout:
        if self._next_ts is None:  # pragma: no cover - pop() has made sure
            raise AssertionError("playout has not begun")
        ts = self._next_ts
        if self._packets and self._packets[0][0] < ts + self._frame_ts // 2:
            ts, seq, payload = self._packets.pop(0)
            self._next_ts = ts + self._frame_ts
            self._recent.append(seq)
            self._last_seq, self._missed = seq, 0
            self.counts.played += 1
            return Playout("played", payload, None, ts % _TS_MOD)
        self._next_ts = ts + self._frame_ts
        return self._missing(ts)

    def _missing(self, ts: int | None) -> Playout:
        """Fill a tick that has no packet: by FEC, by concealment, or with silence if nothing was sent."""
        self._missed += 1
        rtp_ts = None if ts is None else ts % _TS_MOD
        kind: PlayoutKind = "concealed"
        if not self._packets:
            if self._missed * self.config.frame_ms > self.config.conceal_ms:
                kind = "silence"
        elif self._last_seq is not None and ts is not None:
            next_ts, next_seq, next_payload = self._packets[0]
            lost = next_seq - self._last_seq - 1
            if lost < 1 or (self._missed > lost and next_ts - ts > self._frame_ts * 3 // 2):
                kind = "silence"  # nothing was sent for this time (DTX, RFC 7587 §3.1.3)
            elif next_ts - ts <= self._frame_ts * 3 // 2 and opus.has_fec(next_payload):
                self.counts.fec_recovered += 1
                return Playout("fec_recovered", None, next_payload, rtp_ts)
        if kind == "silence":
            self.counts.silence += 1
        else:
            self.counts.concealed += 1
        return Playout(kind, None, None, rtp_ts)

    def _ready(self, now_ns: int) -> bool:
        return bool(self._packets) and self._excess(now_ns, self._packets[0][0]) >= -self._frame_ns // 2

    def _excess(self, now_ns: int, ts: int) -> int:
        """How much later than the target the tick `ts` would be played now, in ns."""
        self._delay_ns = now_ns - self._in_ns(ts) - (self._delays.base_ns or 0)
        return self._delay_ns - round(self.target_ms * _MS)

    def _may_adapt(self, now_ns: int) -> bool:
        return self._adapted_ns is None or now_ns - self._adapted_ns >= self.config.adapt_ms * _MS

    def _skip(self, excess_ns: int) -> None:
        if self._next_ts is None:  # pragma: no cover - pop() has made sure
            raise AssertionError("playout has not begun")
        frames = 1 if excess_ns < self.config.resync_ms * _MS else excess_ns // self._frame_ns
        self._next_ts += frames * self._frame_ts
        while self._packets and self._packets[0][0] + self._frame_ts // 2 <= self._next_ts:
            _, seq, _ = self._packets.pop(0)
            self._recent.append(seq)
            self._last_seq = seq
            self.counts.skipped += 1

    def _resync(self) -> None:
        self.counts.resyncs += 1
        self._packets.clear()
        self._delays = self._new_delays()
        self._next_ts = self._last_seq = None
        self._late_run = self._missed = 0

    def _new_delays(self) -> Delays:
        config = self.config
        return Delays(config.start_ms, config.min_ms, config.max_ms, config.quantile, config.forget)

    def _unwrap(self, rtp_ts: int) -> int:
        if self._last_ts is None:
            self._last_ts = rtp_ts
        else:
            self._last_ts += (rtp_ts - self._last_ts + _HALF_TS) % _TS_MOD - _HALF_TS
        return self._last_ts

    def _in_ns(self, ts: int) -> int:
        return ts * _NS // self.config.clock_rate
