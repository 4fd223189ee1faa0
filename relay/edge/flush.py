"""From raw rows to facts: everything derived is computed here, by columns, away from the hot path.

A flush is a generator that yields after every slice of work, so that the loop can forward voice in between: no thread
that would contend with it, and no pause longer than a slice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eventlog.schema import LEG, PACKET, PACKET_TIME_NS, TIME, UUID_TYPE, FactType
from relay.edge import heads
from relay.edge.capture import TAPS, UNKNOWN_TOS, Capture, LegRow, PacketRow
from relay.edge.config import EdgeConfig
from relay.edge.flows import Flow
from voice.sequence import StreamStats

_NS: Final = 1_000_000_000
_STREAM_IDLE_NS: Final = 60 * _NS  # a stream without packets for so long is over
_BLOCK_ROWS: Final = 4096  # rows worked on together: a step over them takes about a millisecond
_US_MAX: Final = 0xFFFF_FFFF

Array: TypeAlias = "pa.Array[Any]"
StreamKey = tuple[bytes, int, int]


class FactSink(Protocol):
    """What takes facts: `eventlog.emitter.Emitter`. It never blocks."""

    def add_columns(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        """Take rows of one type, by columns; one string stands for all rows."""

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Account for rows that were seen and given up."""


class _Stream:
    """One SSRC of one session at one tap."""

    __slots__ = ("last_ns", "stats")

    def __init__(self) -> None:
        self.stats = StreamStats()
        self.last_ns = 0


class Flusher:
    """Turns what a Capture holds into `packet` and `leg` facts. Belongs to the loop; not thread-safe."""

    def __init__(self, config: EdgeConfig, capture: Capture, sink: FactSink) -> None:
        self._config = config
        self._capture = capture
        self._sink = sink
        self._streams: dict[StreamKey, _Stream] = {}
        self._per_session: dict[bytes, int] = {}
        self._waiting: list[PacketRow] = []
        self._reported = {PACKET.name: Counter[str](), LEG.name: Counter[str]()}
        self.emitted = {PACKET.name: 0, LEG.name: 0}

    def flush(self, now_ns: int, *, last: bool = False) -> Iterator[None]:
        """Emit all rows whose session is known; `now_ns` is UTC. With `last`, nothing is left waiting."""
        packets, legs, broken = self._capture.take()
        packets = self._waiting + packets
        self._waiting = []
        for start in range(0, len(packets), _BLOCK_ROWS):
            yield from self._block(packets[start : start + _BLOCK_ROWS], now_ns, last=last)
        if legs:
            self._legs(legs)
        yield
        if broken:
            # The rows after these are missing: sequence numbers would show losses that the network did not make.
            self._streams.clear()
            self._per_session.clear()
        self._forget_idle(now_ns)
        self._report_shed()

    def _report_shed(self) -> None:
        for fact in (PACKET, LEG):
            reported, total = self._reported[fact.name], self._capture.shed[fact.name]
            for reason, rows in total.items():
                if rows > reported[reason]:
                    self._sink.shed(fact, reason, rows - reported[reason])
                    reported[reason] = rows

    def _resolve(self, rows: list[PacketRow], now_ns: int, *, last: bool) -> list[PacketRow]:
        """Put sessions in the place of flows. Rows without one wait for a bounded time in bounded number."""
        oldest_ns = now_ns - int(self._config.limits.waiting_s * _NS)
        room = 0 if last else self._config.limits.rows // 4
        known: list[PacketRow] = []
        for row in rows:
            owner = row[0]
            session = owner.session if isinstance(owner, Flow) else owner
            if session is not None:
                level_id = owner.audio_level_id if isinstance(owner, Flow) else row[6]
                known.append((session, *row[1:6], level_id))
            elif row[2] >= oldest_ns and len(self._waiting) < room:
                self._waiting.append(row)
            else:
                self._capture.shed[PACKET.name]["no_session"] += 1
        return known

    def _block(self, rows: list[PacketRow], now_ns: int, *, last: bool) -> Iterator[None]:
        if {type(row[0]) for row in rows} != {bytes}:
            rows = self._resolve(rows, now_ns, last=last)
            if not rows:
                return
        owners, tap_codes, times, toses, sizes, first_bytes, level_ids = zip(*rows, strict=True)
        sessions = cast("tuple[bytes, ...]", owners)
        count = len(rows)
        taps = np.fromiter(tap_codes, np.int32, count)
        at_ns = np.fromiter(times, np.int64, count)
        tos = np.fromiter(toses, np.int16, count)
        size = np.fromiter(sizes, np.int64, count)
        yield
        head = heads.read(first_bytes, size, np.fromiter(level_ids, np.int64, count))
        yield
        ext_seq = np.zeros(count, dtype=np.int64)
        transit = np.zeros(count, dtype=np.int32)
        no_transit = np.ones(count, dtype=np.bool_)
        lost = np.zeros(count, dtype=np.int32)
        reordered = np.zeros(count, dtype=np.bool_)
        duplicate = np.zeros(count, dtype=np.bool_)
        keep = np.ones(count, dtype=np.bool_)
        for key, index in _by_stream(sessions, taps, head.ssrc):
            stream = self._stream(key)
            if stream is None:
                self._capture.shed[PACKET.name]["streams"] += len(index)
                keep[index] = False
                continue
            stream.last_ns = int(at_ns[index[-1]])
            arrivals = stream.stats.receive_many(head.seq[index], head.rtp_ts[index], at_ns[index])
            ext_seq[index] = arrivals.ext_seq
            transit[index], no_transit[index] = arrivals.transit_delta_us, ~arrivals.transit_known
            lost[index] = arrivals.newly_lost
            reordered[index] = arrivals.reordered
            duplicate[index] = arrivals.duplicate
            yield
        columns: dict[str, Array | str] = {
            "session_id": _uuids(sessions),
            "region": self._config.region,
            "observed_ns": pa.array(at_ns - at_ns % PACKET_TIME_NS).cast(TIME),
            "tap": _names(taps, TAPS),
            "stream": pa.array(head.ssrc),
            "ext_seq": pa.array(ext_seq),
            "rtp_ts": pa.array(head.rtp_ts),
            "payload_type": pa.array(head.payload_type),
            "marker": pa.array(head.marker),
            "size_bytes": pa.array(size.astype(np.uint16)),
            "audio_level_dbov": pa.array(head.level, mask=~head.has_level),
            "voice_activity": pa.array(head.voice, mask=~head.has_level),
            "dscp": pa.array((tos >> 2).astype(np.uint8), mask=tos == UNKNOWN_TOS),
            "transit_delta_us": pa.array(transit, mask=no_transit),
            "newly_lost": pa.array(lost),
            "reordered": pa.array(reordered),
            "duplicate": pa.array(duplicate),
        }
        if not keep.all():
            chosen = pa.array(keep)
            columns = {
                name: column if isinstance(column, str) else column.filter(chosen) for name, column in columns.items()
            }
        self._emit(PACKET, columns, int(keep.sum()))

    def _legs(self, rows: list[LegRow]) -> None:
        known = [
            (session, row)
            for row in rows
            if (session := row.session.session if isinstance(row.session, Flow) else row.session) is not None
        ]
        if len(known) < len(rows):
            self._capture.shed[LEG.name]["no_session"] += len(rows) - len(known)
        columns: dict[str, Array | str] = {
            "session_id": _uuids([session for session, _ in known]),
            "region": self._config.region,
            "observed_ns": pa.array([row.at_ns for _, row in known], pa.int64()).cast(TIME),
            "leg": pa.array([row.leg for _, row in known], pa.string()).dictionary_encode(),
            "method": "stun",
            "rtt_us": pa.array([min(row.rtt_ns // 1000, _US_MAX) for _, row in known], pa.uint32()),
        }
        self._emit(LEG, columns, len(known))

    def _emit(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        if rows:
            self._sink.add_columns(fact, columns, rows)
            self.emitted[fact.name] += rows

    def _stream(self, key: StreamKey) -> _Stream | None:
        """Return the state of a stream, or None where a session shows more streams than calls have."""
        stream = self._streams.get(key)
        if stream is None:
            streams = self._per_session.get(key[0], 0)
            if streams >= self._config.limits.streams_per_session:
                return None
            self._per_session[key[0]] = streams + 1
            stream = self._streams[key] = _Stream()
        return stream

    def _forget_idle(self, now_ns: int) -> None:
        for key in [key for key, stream in self._streams.items() if now_ns - stream.last_ns > _STREAM_IDLE_NS]:
            del self._streams[key]
            left = self._per_session.pop(key[0]) - 1
            if left:
                self._per_session[key[0]] = left


class _Nowhere:
    """Takes facts that nobody wants."""

    def add_columns(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        """Take rows."""

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Take a count."""


def warm_up(config: EdgeConfig) -> None:
    """Flush one made-up packet to nowhere.

    Arrow imports what it may need (pandas among it) when its first array is made. That takes a second or more, which
    must not fall into a call.
    """
    capture = Capture(config.limits.rows)
    flow = Flow(("192.0.2.1", 1), b"", ("192.0.2.2", 1), 0)
    flow.session = bytes(16)
    capture.packet(flow, 0, b"\x80".ljust(12, b"\0"), 0, UNKNOWN_TOS)
    capture.leg(LegRow(flow, "client_edge", 0, 0))
    for _ in Flusher(config, capture, _Nowhere()).flush(0):
        pass


def _by_stream(
    sessions: Sequence[bytes], taps: npt.NDArray[np.int32], ssrc: npt.NDArray[np.uint32]
) -> Iterator[tuple[StreamKey, npt.NDArray[np.intp]]]:
    """Yield each stream with the indices of its rows, in the order in which they came."""
    codes = {session: code for code, session in enumerate(dict.fromkeys(sessions))}
    session = np.fromiter(map(codes.__getitem__, sessions), np.int64, len(sessions))
    key = session << 33 | taps.astype(np.int64) << 32 | ssrc
    order = np.argsort(key, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        first = int(index[0])
        yield (sessions[first], int(taps[first]), int(ssrc[first])), index


def _uuids(sessions: Sequence[bytes]) -> Array:
    return pa.Array.from_buffers(UUID_TYPE, len(sessions), [None, pa.py_buffer(b"".join(sessions))])


def _names(codes: npt.NDArray[np.int32], values: Sequence[str]) -> Array:
    return pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))
