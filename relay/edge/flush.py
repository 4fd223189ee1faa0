"""From raw rows to facts: everything derived is computed here, by columns, away from the hot path.

A flush is a generator that yields after every slice of work, so that the loop can forward voice in between: no thread
that would contend with it, and no pause longer than a slice.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eventlog.resolution import coarse_us_many
from eventlog.schema import LEG, PACKET, PACKET_TIME_NS, TIME, UUID_TYPE, FactType
from relay.edge import heads
from relay.edge.capture import EDGE_UP, TAPS, UNKNOWN_TOS, Capture, Columns, LegRow
from relay.edge.config import EdgeConfig
from relay.edge.flows import Flow
from relay.edge.keeps import Keeps
from relay.edge.owners import UNKNOWN, Owners
from relay.edge.sampling import Sampler
from voice.sequence import StreamStats, receive_streams

_NS: Final = 1_000_000_000
_STREAM_IDLE_NS: Final = 60 * _NS  # a stream without packets for so long is over
_BLOCK_ROWS: Final = 8192  # rows worked on together, in steps that voice waits for: smaller blocks cost more in all
_US_MAX: Final = 0xFFFF_FFFF
_TAP_SHIFT: Final = 32  # a stream's key: code of its session, tap, SSRC
_CODE_SHIFT: Final = 33

Array: TypeAlias = "pa.Array[Any]"
Packets = dict[str, npt.NDArray[Any]]
"""Columns of a block with all that is derived, by stream and then in the order of arrival."""


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

    def __init__(
        self, config: EdgeConfig, capture: Capture, owners: Owners, sink: FactSink, keeps: Keeps | None = None
    ) -> None:
        self._config = config
        self._capture = capture
        self._owners = owners
        self._sink = sink
        self._streams: dict[int, _Stream] = {}
        self._per_session: Counter[int] = Counter()
        self._waiting: list[Columns] = []
        self._leaving: set[int] = set()
        self._reported = {PACKET.name: Counter[str](), LEG.name: Counter[str]()}
        self.emitted = {PACKET.name: 0, LEG.name: 0}
        self.lost = 0
        """Packets that the facts say are missing."""
        self._sampler: Sampler | None = None
        if config.sampling.policy == "sampled":
            self._sampler = Sampler(config.sampling, int.from_bytes(os.urandom(8), "big"), keeps)

    @property
    def waiting(self) -> int:
        """Rows that wait to learn their session, or whether a bad moment follows."""
        return self._waiting_rows + (self._sampler.waiting if self._sampler is not None else 0)

    @property
    def thinned(self) -> int:
        """Packets that others represent."""
        return self._sampler.thinned if self._sampler is not None else 0

    @property
    def _waiting_rows(self) -> int:
        return sum(map(len, self._waiting))

    def flush(self, now_ns: int, *, last: bool = False) -> Iterator[None]:
        """Emit all rows whose session is known; `now_ns` is UTC. With `last`, nothing is left waiting."""
        leaving = self._owners.take_retired()
        packets, legs, broken = self._capture.take()
        waited, self._waiting = self._waiting, []
        for rows in (*waited, packets):
            for start in range(0, len(rows), _BLOCK_ROWS):
                yield from self._block(rows.rows(slice(start, start + _BLOCK_ROWS)), now_ns, last=last)
        if self._sampler is not None:
            for kept in self._sampler.due(now_ns, last=last):
                if kept is not None:
                    yield from self._write(kept)
                yield
        if legs:
            self._legs(legs)
        yield
        if broken:
            # The rows after these are missing: sequence numbers would show losses that the network did not make.
            self._streams.clear()
            self._per_session.clear()
        self._forget_idle(now_ns)
        self._release(leaving)
        self._report_shed()

    def _release(self, leaving: Sequence[int]) -> None:
        """Let go of owners that had retired before the rows of this flush were taken, and of whom none waits."""
        self._leaving.update(leaving)
        held = {int(owner) for rows in self._waiting for owner in np.unique(rows.owner)}
        self._owners.release(self._leaving - held)
        self._leaving &= held

    def _report_shed(self) -> None:
        shed = self._capture.shed
        for fact in (PACKET, LEG):
            reported = self._reported[fact.name]
            for reason, rows in shed[fact.name].items():
                if rows > reported[reason]:
                    self._sink.shed(fact, reason, rows - reported[reason])
                    reported[reason] = rows

    def _known(self, rows: Columns, now_ns: int, *, last: bool) -> Columns:
        """Return the rows whose session is known. The others wait for a bounded time in bounded number."""
        known = self._owners.codes[rows.owner] != UNKNOWN
        if known.all():
            return rows
        oldest_ns = now_ns - int(self._config.limits.waiting_s * _NS)
        room = 0 if last else max(0, self._config.limits.rows // 4 - self._waiting_rows)
        patient = ~known & (rows.at_ns >= oldest_ns)
        patient[np.flatnonzero(patient)[room:]] = False
        if patient.any():
            self._waiting.append(rows.rows(patient))
        self._capture.give_up(PACKET.name, "no_session", int(np.count_nonzero(~known & ~patient)))
        return rows.rows(known)

    def _block(self, rows: Columns, now_ns: int, *, last: bool) -> Iterator[None]:
        rows = self._known(rows, now_ns, last=last)
        packets: Packets | None = None
        for step in self._derive(rows):
            packets = step
            yield
        if packets is None:
            return
        if self._sampler is not None:
            self._sampler.add(packets)
        else:
            yield from self._write(packets)
        yield

    def _derive(self, rows: Columns) -> Iterator[Packets | None]:
        """Compute all columns in steps; the last one yields them, if rows are left."""
        if not len(rows):
            return
        owner, size = rows.owner, rows.size.astype(np.int64)
        head = heads.read(rows.head, size, self._owners.level_ids[owner].astype(np.int64))
        yield None
        key = self._owners.codes[owner] << _CODE_SHIFT | rows.tap.astype(np.int64) << _TAP_SHIFT | head.ssrc
        order = np.argsort(key, kind="stable")
        key, order = self._within_caps(key[order], order)
        if not len(key):
            return
        yield None
        starts = _starts(key)
        at_ns = rows.at_ns[order]
        streams = [self._streams[one] for one in key[starts].tolist()]
        for stream, last_ns in zip(streams, at_ns[np.append(starts[1:], len(key)) - 1].tolist(), strict=True):
            stream.last_ns = last_ns
        yield None
        seq, rtp_ts = head.seq[order], head.rtp_ts[order]
        arrivals = receive_streams([stream.stats for stream in streams], starts, seq, rtp_ts, at_ns)
        self.lost += int(arrivals.newly_lost.sum())
        yield None
        yield {
            "session": self._owners.sessions[owner[order]],
            "observed_ns": at_ns,
            "tap": rows.tap[order],
            "stream": head.ssrc[order],
            "ext_seq": arrivals.ext_seq,
            "rtp_ts": rtp_ts,
            "payload_type": head.payload_type[order],
            "marker": head.marker[order],
            "size_bytes": rows.size[order],
            "level": head.level[order],
            "voice": head.voice[order],
            "has_level": head.has_level[order],
            "tos": rows.tos[order],
            "transit_delta_us": arrivals.transit_delta_us,
            "transit_known": arrivals.transit_known,
            "newly_lost": arrivals.newly_lost,
            "reordered": arrivals.reordered,
            "duplicate": arrivals.duplicate,
        }

    def _within_caps(
        self, key: npt.NDArray[np.int64], order: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Leave out, and count, rows of streams beyond those that a session may have."""
        refused = []
        for one in key[_starts(key)].tolist():
            if one in self._streams:
                continue
            session = one >> _CODE_SHIFT
            if self._per_session[session] < self._config.limits.streams_per_session:
                self._per_session[session] += 1
                self._streams[one] = _Stream()
            else:
                refused.append(one)
        if not refused:
            return key, order
        keep = ~np.isin(key, refused)
        self._capture.give_up(PACKET.name, "streams", int(np.count_nonzero(~keep)))
        return key[keep], order[keep]

    def _write(self, packets: Packets) -> Iterator[None]:
        """Make facts of packets, in steps."""
        at_ns, no_level = packets["observed_ns"], ~packets["has_level"]
        columns: dict[str, Array | str] = {
            "session_id": _uuids(packets["session"]),
            "region": self._config.region,
            "observed_ns": pa.array(at_ns - at_ns % PACKET_TIME_NS).cast(TIME),
            "tap": _taps(packets["tap"]),
            "audio_level_dbov": pa.array(packets["level"], mask=no_level),
            "voice_activity": pa.array(packets["voice"], mask=no_level),
            "dscp": pa.array((packets["tos"] >> 2).astype(np.uint8), mask=packets["tos"] == UNKNOWN_TOS),
            "transit_delta_us": pa.array(coarse_us_many(packets["transit_delta_us"]), mask=~packets["transit_known"]),
        }
        yield
        for name in (
            "stream",
            "ext_seq",
            "rtp_ts",
            "payload_type",
            "marker",
            "size_bytes",
            "newly_lost",
            "reordered",
            "duplicate",
        ):
            columns[name] = pa.array(packets[name])
        if "represents" in packets:
            columns["represents"] = pa.array(packets["represents"])
        yield
        self._emit(PACKET, columns, len(at_ns))

    def _legs(self, rows: list[LegRow]) -> None:
        known = [
            (session, row)
            for row in rows
            if (session := row.session.session if isinstance(row.session, Flow) else row.session) is not None
        ]
        self._capture.give_up(LEG.name, "no_session", len(rows) - len(known))
        columns: dict[str, Array | str] = {
            "session_id": _uuids(np.frombuffer(b"".join(session for session, _ in known), np.uint8)),
            "region": self._config.region,
            "observed_ns": pa.array([row.at_ns for _, row in known], pa.int64()).cast(TIME),
            "leg": pa.array([row.leg for _, row in known], pa.string()).dictionary_encode(),
            "method": pa.array([row.method for _, row in known], pa.string()).dictionary_encode(),
            "rtt_us": pa.array([min(row.rtt_ns // 1000, _US_MAX) for _, row in known], pa.uint32()),
            "remote_region": pa.array([row.region for _, row in known], pa.string()).dictionary_encode(),
        }
        self._emit(LEG, columns, len(known))

    def _emit(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        if rows:
            self._sink.add_columns(fact, columns, rows)
            self.emitted[fact.name] += rows

    def _forget_idle(self, now_ns: int) -> None:
        for key in [key for key, stream in self._streams.items() if now_ns - stream.last_ns > _STREAM_IDLE_NS]:
            del self._streams[key]
            left = self._per_session.pop(key >> _CODE_SHIFT) - 1
            if left:
                self._per_session[key >> _CODE_SHIFT] = left


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
    capture, owners = Capture(1), Owners()
    flow = Flow(("192.0.2.1", 1), b"", ("192.0.2.2", 1), 0, owners.new(bytes(16)))
    flow.session = bytes(16)
    capture.packet(flow, EDGE_UP, b"\x80".ljust(12, b"\0"), 0, UNKNOWN_TOS)
    capture.leg(LegRow(flow, "client_edge", 0, 0))
    for _ in Flusher(config, capture, owners, _Nowhere()).flush(0):
        pass


def _starts(key: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return where each run of equal keys begins; there is at least one."""
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def _uuids(sessions: npt.NDArray[np.uint8]) -> Array:
    octets = np.ascontiguousarray(sessions).reshape(-1)
    return pa.Array.from_buffers(UUID_TYPE, len(octets) // 16, [None, pa.py_buffer(octets.data)])


def _taps(codes: npt.NDArray[np.uint8]) -> Array:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(TAPS, pa.string()))
