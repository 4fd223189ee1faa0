"""What a stream's sequence numbers say: extended number, loss, reordering, duplicates, jitter (RFC 3550 A.1, A.3, A.8).

How the standard's sketch was completed, so that facts add up:

- **No probation.** The first packet is the base; a telemetry tap must not lose the first packets of a call.
- **The sum holds at every moment**: Σ `newly_lost` = `expected` - (`received` - `duplicates`) = `lost`. An arrival in
  order that skips n numbers says `newly_lost` n; a missing one that turns up says -1.
- **Duplicates** are told from late packets by a window over the last 128 numbers, more than A.1 lets a packet be late.
- **Before the base.** A packet from before the first one seen is reordered (RFC 4737) and the base moves down to it;
  the numbers between it and the old base become missing (`newly_lost` = that many) until they turn up too.
- **Jumps** (A.1: 3000 or more ahead, or 100 or more behind). The first such packet is a `stray`: it counts as received
  and as expected, so it adds no loss, and it gets the extended number nearest to the highest one. If the next number
  follows it, the sender has restarted: a new epoch begins with the two. The distance jumped is not loss, for nobody
  knows that anything was sent; extended numbers go on without repeating, ahead of the old epoch's.
- **Jitter** skips duplicates, strays and the first packet of an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

SEQ_MOD: Final = 1 << 16
MAX_DROPOUT: Final = 3000  # RFC 3550 A.1
MAX_MISORDER: Final = 100  # RFC 3550 A.1

SEEN_BITS: Final = 128
_SEEN_MASK: Final = (1 << SEEN_BITS) - 1
_TS_MOD: Final = 1 << 32
_HALF_TS: Final = 1 << 31
_NS: Final = 1_000_000_000
_INT32: Final = (1 << 31) - 1
_CUMULATIVE_MAX: Final = 0x7FFFFF  # RFC 3550 §6.4.1: cumulative loss is a signed 24-bit field
_CUMULATIVE_MIN: Final = -0x800000
_JITTER_GAIN: Final = 16.0  # RFC 3550 A.8

_VECTOR_ROWS_MIN: Final = 32  # below this, numpy's fixed cost per call exceeds the scalar form's
_VECTOR_ROWS_MAX: Final = 16_384  # bounds what is computed in vain when a run ends early
_JITTER_ROWS: Final = 640  # (15/16)^640 < 2^-53: older rows cannot change the sum
_JITTER_WEIGHTS: Final = (1.0 - 1.0 / _JITTER_GAIN) ** np.arange(_JITTER_ROWS - 1, -1, -1) / _JITTER_GAIN


class Arrival(NamedTuple):
    """What one arrival says.

    Attributes:
        ext_seq: extended sequence number; its low 16 bits are the packet's.
        transit_delta_us: RFC 3550 §6.4.1 D against the packet that arrived before, signed, ±2³¹-1 at most; None for
            the first packet of an epoch, duplicates and strays.
        newly_lost: packets that this arrival shows missing; -1 when a missing one turns up.
        reordered: arrived after a higher number of its epoch (RFC 4737 §3.3); False for duplicates.
        duplicate: this number has been seen.
        stray: far from everything else, and not (yet) followed by a neighbour.

    """

    ext_seq: int
    transit_delta_us: int | None
    newly_lost: int
    reordered: bool
    duplicate: bool
    stray: bool = False


class Arrivals(NamedTuple):
    """`Arrival` by column, each of shape (n,) in order of arrival.

    Attributes:
        ext_seq: int64.
        transit_delta_us: int32; meaningless where `transit_known` is False.
        transit_known: bool.
        newly_lost: int32.
        reordered: bool.
        duplicate: bool.
        stray: bool.

    """

    ext_seq: npt.NDArray[np.int64]
    transit_delta_us: npt.NDArray[np.int32]
    transit_known: npt.NDArray[np.bool_]
    newly_lost: npt.NDArray[np.int32]
    reordered: npt.NDArray[np.bool_]
    duplicate: npt.NDArray[np.bool_]
    stray: npt.NDArray[np.bool_]


class ReportBlock(NamedTuple):
    """Loss fields of an RTCP report block (RFC 3550 §6.4.1, A.3), duplicates counted as received, as A.3 has it."""

    fraction_lost: int
    cumulative_lost: int
    ext_max: int


class StreamStats:
    """Statistics of one stream (one SSRC at one tap).

    Args:
        clock_rate: RTP clock in Hz (Opus: always 48 000, RFC 7587 §4.1).

    """

    def __init__(self, clock_rate: int = 48_000) -> None:
        if clock_rate <= 0:
            raise ValueError(f"clock rate {clock_rate} Hz must be positive")
        self.clock_rate = clock_rate
        self.received = 0
        """Packets that arrived, duplicates included."""
        self.duplicates = 0
        self.reordered = 0
        self.restarts = 0
        """Epochs begun after a jump."""
        self.jitter_s = 0.0
        """RFC 3550 A.8 interarrival jitter in seconds."""
        self.ext_max: int | None = None
        """Highest extended sequence number; None before the first packet."""
        self.base: int | None = None
        """Lowest extended sequence number of this epoch."""
        self._seen = 0  # bit i: ext_max - i has arrived
        self._closed_expected = 0  # of earlier epochs, and one for each stray
        self._bad_seq: int | None = None  # A.1: the number that would confirm a restart
        self._last_arrival_ns: int | None = None
        self._last_rtp_ts = 0
        self._reported = (0, 0)

    @property
    def expected(self) -> int:
        """Packets from base to highest number, over all epochs, plus strays."""
        if self.ext_max is None or self.base is None:
            return 0
        return self._closed_expected + self.ext_max - self.base + 1

    @property
    def lost(self) -> int:
        """Packets missing now; never negative, because duplicates do not hide losses."""
        return self.expected - self.received + self.duplicates

    def receive(self, seq: int, rtp_ts: int, arrival_ns: int) -> Arrival:
        """Take one packet.

        Args:
            seq: 16-bit sequence number.
            rtp_ts: 32-bit RTP timestamp.
            arrival_ns: arrival time on any one clock.

        """
        self.received += 1
        if self.ext_max is None or self.base is None:
            self._begin(seq)
            self._transit(rtp_ts, arrival_ns)
            return Arrival(seq, None, 0, reordered=False, duplicate=False)
        ahead = (seq - self.ext_max) % SEQ_MOD
        if 0 < ahead < MAX_DROPOUT:
            self.ext_max += ahead
            self._seen = ((self._seen << ahead) | 1) & _SEEN_MASK
            delta = self._transit(rtp_ts, arrival_ns)
            return Arrival(self.ext_max, delta, ahead - 1, reordered=False, duplicate=False)
        behind = (SEQ_MOD - ahead) % SEQ_MOD
        if behind >= MAX_MISORDER:
            return self._jump(seq, ahead, rtp_ts, arrival_ns)
        ext_seq = self.ext_max - behind
        if self._seen >> behind & 1:
            self.duplicates += 1
            return Arrival(ext_seq, None, 0, reordered=False, duplicate=True)
        self._seen |= 1 << behind
        newly_lost = -1
        if ext_seq < self.base:
            newly_lost = self.base - ext_seq - 1
            self.base = ext_seq
        self.reordered += 1
        return Arrival(ext_seq, self._transit(rtp_ts, arrival_ns), newly_lost, reordered=True, duplicate=False)

    def receive_many(
        self,
        seq: npt.NDArray[np.uint16],
        rtp_ts: npt.NDArray[np.uint32],
        arrival_ns: npt.NDArray[np.int64],
    ) -> Arrivals:
        """Take packets in order of arrival, arrays of shape (n,); the same as `receive` on each, but fast.

        Every number is the same as the scalar form's, but for `jitter_s`, whose last digits may differ (the sum is
        taken in another order).

        Raises:
            ValueError: the arrays differ in length.

        """
        seq = np.ascontiguousarray(seq, dtype=np.uint16)
        rtp_ts = np.ascontiguousarray(rtp_ts, dtype=np.uint32)
        arrival_ns = np.ascontiguousarray(arrival_ns, dtype=np.int64)
        rows = len(seq)
        if len(rtp_ts) != rows or len(arrival_ns) != rows:
            raise ValueError(f"{rows} sequence numbers, {len(rtp_ts)} timestamps, {len(arrival_ns)} arrival times")
        out = Arrivals(
            np.zeros(rows, np.int64),
            np.zeros(rows, np.int32),
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.int32),
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.bool_),
        )
        at = 0
        while at < rows:
            if rows - at >= _VECTOR_ROWS_MIN:
                stop = min(rows, at + _VECTOR_ROWS_MAX)
                part = slice(at, stop)
                at += self._receive_run(seq[part], rtp_ts[part], arrival_ns[part], _view(out, part))
                if at == stop:
                    continue
            # The first packet, a jump, a packet before the base, or too few to pay for vectors.
            for row in range(at, min(rows, at + _VECTOR_ROWS_MIN)):
                arrival = self.receive(int(seq[row]), int(rtp_ts[row]), int(arrival_ns[row]))
                _write(out, row, arrival)
            at += _VECTOR_ROWS_MIN
        return out

    def report(self) -> ReportBlock:
        """Make the loss fields of a report block, for the interval since the last call (RFC 3550 A.3).

        The cumulative figure can be negative: A.3 lets duplicates hide losses. `lost` is the one to trust.
        """
        expected, received = self.expected, self.received
        expected_interval = expected - self._reported[0]
        lost_interval = expected_interval - (received - self._reported[1])
        self._reported = (expected, received)
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, (lost_interval << 8) // expected_interval)
        cumulative = max(_CUMULATIVE_MIN, min(_CUMULATIVE_MAX, expected - received))
        return ReportBlock(fraction, cumulative, (self.ext_max or 0) % _TS_MOD)

    def _begin(self, ext_seq: int) -> None:
        self.base = self.ext_max = ext_seq
        self._seen = 1
        self._last_arrival_ns = None

    def _jump(self, seq: int, ahead: int, rtp_ts: int, arrival_ns: int) -> Arrival:
        if self.ext_max is None or self.base is None:  # pragma: no cover - receive() has made sure
            raise AssertionError("a jump before the first packet")
        if seq == self._bad_seq:
            self._closed_expected += self.ext_max - self.base  # +1 for the range, -1 for the stray that joins it
            self._begin(self.ext_max + ahead)
            self.base -= 1
            self._seen = 0b11
            self._bad_seq = None
            self.restarts += 1
            self._transit(rtp_ts, arrival_ns)
            return Arrival(self.ext_max, None, 0, reordered=False, duplicate=False)
        nearest = ahead if ahead < SEQ_MOD // 2 else ahead - SEQ_MOD
        if self._bad_seq is not None and (seq + 1) % SEQ_MOD == self._bad_seq:
            self.duplicates += 1
            return Arrival(self.ext_max + nearest, None, 0, reordered=False, duplicate=True, stray=True)
        self._bad_seq = (seq + 1) % SEQ_MOD
        self._closed_expected += 1
        return Arrival(self.ext_max + nearest, None, 0, reordered=False, duplicate=False, stray=True)

    def _receive_run(
        self,
        seq: npt.NDArray[np.uint16],
        rtp_ts: npt.NDArray[np.uint32],
        arrival_ns: npt.NDArray[np.int64],
        out: Arrivals,
    ) -> int:
        """Take the longest prefix without a jump and without a packet before the base; return its length."""
        if self.ext_max is None or self.base is None or self._last_arrival_ns is None:
            return 0
        old_max = self.ext_max
        steps = np.diff(seq, prepend=np.uint16(old_max % SEQ_MOD)).view(np.int16)  # modulo 2^16, as shortest way
        ext_seq = old_max + np.cumsum(steps, dtype=np.int64)
        highest = np.maximum.accumulate(ext_seq)
        gap = np.empty_like(ext_seq)
        gap[0] = ext_seq[0] - old_max
        gap[1:] = ext_seq[1:] - np.maximum(highest[:-1], old_max)
        special = (gap >= MAX_DROPOUT) | (gap <= -MAX_MISORDER) | (ext_seq < self.base)
        rows = int(special.argmax()) if special.any() else len(seq)
        if not rows:
            return 0
        ext_seq, gap = ext_seq[:rows], gap[:rows]
        late = gap <= 0
        any_late = bool(late.any())
        duplicate = self._duplicates(ext_seq, late) if any_late else late
        first = ~duplicate

        out.ext_seq[:rows] = ext_seq
        out.newly_lost[:rows] = np.where(duplicate, 0, np.where(late, -1, gap - 1))
        out.duplicate[:rows] = duplicate
        out.reordered[:rows] = late & first
        out.transit_known[:rows] = first
        self._transit_run(rtp_ts[:rows][first], arrival_ns[:rows][first], out.transit_delta_us[:rows], first)

        self.received += rows
        if any_late:
            self.duplicates += int(duplicate.sum())
            self.reordered += int((late & first).sum())
        self.ext_max = max(old_max, int(highest[rows - 1]))
        shift = self.ext_max - old_max
        behind = self.ext_max - ext_seq[-2 * SEEN_BITS :] if not any_late else self.ext_max - ext_seq
        bits = np.zeros(SEEN_BITS, np.bool_)
        bits[behind[behind < SEEN_BITS]] = True
        fresh = int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
        kept = (self._seen << shift) & _SEEN_MASK if shift < SEEN_BITS else 0
        self._seen = kept | fresh
        return rows

    def _duplicates(self, ext_seq: npt.NDArray[np.int64], late: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        if self.ext_max is None:  # pragma: no cover - the caller has made sure
            raise AssertionError("no packet yet")
        duplicate = np.ones(len(ext_seq), np.bool_)
        duplicate[np.unique(ext_seq, return_index=True)[1]] = False
        behind = self.ext_max - ext_seq
        for row in np.flatnonzero(late & (behind >= 0)):
            if self._seen >> int(behind[row]) & 1:
                duplicate[row] = True
        return duplicate

    def _transit_run(
        self,
        rtp_ts: npt.NDArray[np.uint32],
        arrival_ns: npt.NDArray[np.int64],
        out_us: npt.NDArray[np.int32],
        rows: npt.NDArray[np.bool_],
    ) -> None:
        if not len(rtp_ts) or self._last_arrival_ns is None:
            return
        sent = np.diff(rtp_ts, prepend=np.uint32(self._last_rtp_ts)).view(np.int32).astype(np.int64)
        delta_ns = np.diff(arrival_ns, prepend=np.int64(self._last_arrival_ns)) - sent * _NS // self.clock_rate
        out_us[rows] = np.clip((delta_ns + 500) // 1000, -_INT32, _INT32)
        recent = np.abs(delta_ns[-_JITTER_ROWS:]) / _NS
        decay = (1.0 - 1.0 / _JITTER_GAIN) ** len(delta_ns)
        self.jitter_s = self.jitter_s * decay + float(np.dot(_JITTER_WEIGHTS[-len(recent) :], recent))
        self._last_arrival_ns, self._last_rtp_ts = int(arrival_ns[-1]), int(rtp_ts[-1])

    def _advance(self, rows: int, rtp_ts: int, arrival_ns: int, jitter_s: float) -> None:
        """Take the next `rows` numbers, arrived in order; `jitter_s` is what they add to the decayed sum."""
        if self.ext_max is None:  # pragma: no cover - the caller has made sure
            raise AssertionError("no packet yet")
        self.received += rows
        self.ext_max += rows
        self._seen = (self._seen << rows | (1 << rows) - 1) & _SEEN_MASK if rows < SEEN_BITS else _SEEN_MASK
        self.jitter_s = self.jitter_s * (1.0 - 1.0 / _JITTER_GAIN) ** rows + jitter_s
        self._last_arrival_ns, self._last_rtp_ts = arrival_ns, rtp_ts

    def _transit(self, rtp_ts: int, arrival_ns: int) -> int | None:
        last_ns, last_ts = self._last_arrival_ns, self._last_rtp_ts
        self._last_arrival_ns, self._last_rtp_ts = arrival_ns, rtp_ts
        if last_ns is None:
            return None
        sent = (rtp_ts - last_ts + _HALF_TS) % _TS_MOD - _HALF_TS
        delta_ns = arrival_ns - last_ns - sent * _NS // self.clock_rate
        self.jitter_s += (abs(delta_ns) / _NS - self.jitter_s) / _JITTER_GAIN
        return max(-_INT32, min(_INT32, (delta_ns + 500) // 1000))


def receive_streams(
    streams: Sequence[StreamStats],
    starts: npt.NDArray[np.int64],
    seq: npt.NDArray[np.uint16],
    rtp_ts: npt.NDArray[np.uint32],
    arrival_ns: npt.NDArray[np.int64],
) -> Arrivals:
    """Take packets of many streams: `receive_many` on each, but fast also where each stream has only a few.

    Args:
        streams: all different, all of one clock rate.
        starts: row at which each one's packets start, ascending from 0; no stream is without packets.
        seq: shape (n,), all packets of a stream together, in order of arrival.
        rtp_ts: likewise.
        arrival_ns: likewise.

    """
    rows = len(seq)
    ends = np.append(starts[1:], rows)
    counts = ends - starts
    known = [stream.ext_max is not None and stream._last_arrival_ns is not None for stream in streams]  # noqa: SLF001
    highest = np.fromiter((stream.ext_max or 0 for stream in streams), np.int64, len(streams))
    last_ns = np.fromiter((stream._last_arrival_ns or 0 for stream in streams), np.int64, len(streams))  # noqa: SLF001
    last_ts = np.fromiter((stream._last_rtp_ts for stream in streams), np.uint32, len(streams))  # noqa: SLF001

    steps = np.diff(seq, prepend=np.uint16(0))
    steps[starts] = seq[starts] - (highest % SEQ_MOD).astype(np.uint16)
    in_order = np.logical_and.reduceat(steps == 1, starts) & known
    place = np.arange(rows) - np.repeat(starts, counts)
    sent = np.diff(rtp_ts, prepend=np.uint32(0))
    sent[starts] = rtp_ts[starts] - last_ts
    delta_ns = np.diff(arrival_ns, prepend=np.int64(0))
    delta_ns[starts] = arrival_ns[starts] - last_ns
    delta_ns -= sent.view(np.int32).astype(np.int64) * _NS // streams[0].clock_rate if streams else 0
    out = Arrivals(
        np.repeat(highest, counts) + place + 1,
        np.clip((delta_ns + 500) // 1000, -_INT32, _INT32).astype(np.int32),
        np.ones(rows, np.bool_),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.bool_),
        np.zeros(rows, np.bool_),
        np.zeros(rows, np.bool_),
    )
    weights = _JITTER_WEIGHTS[np.maximum(place - np.repeat(counts, counts), -_JITTER_ROWS)]
    jitter_s = np.add.reduceat(weights * np.abs(delta_ns), starts) / _NS if rows else np.zeros(0)
    for number, stream in enumerate(streams):
        start, end = int(starts[number]), int(ends[number])
        if in_order[number]:
            stream._advance(end - start, int(rtp_ts[end - 1]), int(arrival_ns[end - 1]), float(jitter_s[number]))  # noqa: SLF001
        else:
            part = slice(start, end)
            _fill(out, part, stream.receive_many(seq[part], rtp_ts[part], arrival_ns[part]))
    return out


def _fill(out: tuple[npt.NDArray[Any], ...], part: slice, arrivals: tuple[npt.NDArray[Any], ...]) -> None:
    for column, values in zip(out, arrivals, strict=True):
        column[part] = values


def _view(out: Arrivals, part: slice) -> Arrivals:
    return Arrivals(
        out.ext_seq[part],
        out.transit_delta_us[part],
        out.transit_known[part],
        out.newly_lost[part],
        out.reordered[part],
        out.duplicate[part],
        out.stray[part],
    )


def _write(out: Arrivals, row: int, arrival: Arrival) -> None:
    out.ext_seq[row] = arrival.ext_seq
    out.transit_known[row] = arrival.transit_delta_us is not None
    out.transit_delta_us[row] = arrival.transit_delta_us or 0
    out.newly_lost[row] = arrival.newly_lost
    out.reordered[row] = arrival.reordered
    out.duplicate[row] = arrival.duplicate
    out.stray[row] = arrival.stray
