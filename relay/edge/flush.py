"""From raw rows to facts: everything derived is computed here, by columns, away from the hot path.

A flush is a generator that yields after every slice of work, so that the loop can forward voice in between: no thread
that would contend with it, and no pause longer than a slice.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from eventlog.schema import LEG, PACKET, TIME, FactType
from relay.edge import wire
from relay.edge.capture import EDGE_UP, UNKNOWN_TOS, Capture, Columns, LegRow
from relay.edge.compiled import CompiledDeriver
from relay.edge.config import EdgeConfig
from relay.edge.derive import Array, Deriver, Packets, PortableDeriver, uuids
from relay.edge.flows import Flow
from relay.edge.keeps import Keeps
from relay.edge.owners import UNKNOWN, Owners
from relay.edge.sampling import Sampler

_NS: Final = 1_000_000_000
_STREAM_IDLE_NS: Final = 60 * _NS  # a stream without packets for so long is over
_EVER_NS: Final = (1 << 63) - 1
_BLOCK_ROWS: Final = 8192  # rows looked at in one step
_US_MAX: Final = 0xFFFF_FFFF


class FactSink(Protocol):
    """What takes facts: `eventlog.emitter.Emitter`. It never blocks."""

    def add_columns(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        """Take rows of one type, by columns; one string stands for all rows."""

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Account for rows that were seen and given up."""


class Flusher:
    """Turns what a Capture holds into `packet` and `leg` facts. Belongs to the loop; not thread-safe."""

    def __init__(
        self,
        config: EdgeConfig,
        capture: Capture,
        owners: Owners,
        sink: FactSink,
        keeps: Keeps | None = None,
        deriver: Deriver | None = None,
    ) -> None:
        self._config = config
        self._capture = capture
        self._owners = owners
        self._sink = sink
        self._deriver = deriver if deriver is not None else make_deriver(config)
        self._refused = 0
        self._waiting: list[Columns] = []
        self._leaving: set[int] = set()
        self._legs_in_hand: list[LegRow] = []
        self._reported = {PACKET.name: Counter[str](), LEG.name: Counter[str]()}
        self.emitted = {PACKET.name: 0, LEG.name: 0}
        self._sampler: Sampler | None = None
        if config.sampling.policy == "sampled":
            self._sampler = Sampler(config.sampling, int.from_bytes(os.urandom(8), "big"), keeps)

    @property
    def lost(self) -> int:
        """Packets that the facts showed to be missing."""
        return self._deriver.lost

    @property
    def found(self) -> int:
        """Those of them that came after all."""
        return self._deriver.found

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
        """Emit all rows whose session is known; `now_ns` is UTC. With `last`, nothing is left waiting.

        Raises:
            Exception: whatever a step raised; the rows in hand are given up and counted as shed (`error`).

        """
        try:
            yield from self._flush(now_ns, last=last)
        except Exception:
            self._give_up_in_hand(everything=last)
            raise

    def _flush(self, now_ns: int, *, last: bool) -> Iterator[None]:
        self._leaving.update(self._owners.take_retired())
        packets, self._legs_in_hand, broken = self._capture.take()
        waited, self._waiting = self._waiting, []
        for rows in (*waited, packets):
            parts = yield from self._known_parts(rows, now_ns, last=last)
            for part in parts:
                for start in range(0, len(part), self._deriver.block_rows):
                    yield from self._block(part.rows(slice(start, start + self._deriver.block_rows)))
        if self._sampler is not None:
            for kept in self._sampler.due(now_ns, last=last):
                if kept is not None:
                    yield from self._write(kept)
                yield
        if self._legs_in_hand:
            self._legs(self._legs_in_hand)
            self._legs_in_hand = []
        yield
        if broken:
            # The rows after these are missing: sequence numbers would show losses that the network did not make.
            self._deriver.forget(_EVER_NS)
        self._deriver.forget(now_ns - _STREAM_IDLE_NS)
        self._release()
        self._report_shed()

    def _give_up_in_hand(self, *, everything: bool) -> None:
        """Count rows that a failed flush had taken and not handed on; with `everything`, those that wait, too."""
        if everything:
            self._waiting = []
            if self._sampler is not None:
                self._sampler.drop()
        self._count_refused()
        shed = sum(self._capture.shed[PACKET.name].values())
        told = self.emitted[PACKET.name] + self.thinned + shed
        left = self._capture.captured - told - self._capture.waiting - self.waiting
        self._capture.give_up(PACKET.name, "error", max(0, left))
        self._capture.give_up(LEG.name, "error", len(self._legs_in_hand))
        self._legs_in_hand = []
        self._deriver.forget(_EVER_NS)  # as after any rows that are missing
        self._report_shed()

    def _release(self) -> None:
        """Let go of owners that had retired before the rows of this flush were taken, and of whom none waits."""
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

    def _known_parts(self, rows: Columns, now_ns: int, *, last: bool) -> Generator[None, None, list[Columns]]:
        """Return the rows whose session is known: as they are if all are, else by blocks."""
        if (self._owners.codes[rows.owner] != UNKNOWN).all():
            return [rows]
        parts = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            parts.append(self._known(rows.rows(slice(start, start + _BLOCK_ROWS)), now_ns, last=last))
            yield
        return parts

    def _block(self, rows: Columns) -> Iterator[None]:
        packets: Packets | None = None
        for step in self._deriver.derive(rows, self._owners):
            packets = step
            yield
        self._count_refused()
        if packets is None:
            return
        if self._sampler is None:
            yield from self._write(packets)
            return
        for start in range(0, len(packets["observed_ns"]), _BLOCK_ROWS):
            self._sampler.add({name: values[start : start + _BLOCK_ROWS] for name, values in packets.items()})
            yield

    def _count_refused(self) -> None:
        refused = self._deriver.refused
        self._capture.give_up(PACKET.name, "streams", refused - self._refused)
        self._refused = refused

    def _write(self, packets: Packets) -> Iterator[None]:
        """Make facts of packets, in steps."""
        for columns in self._deriver.arrays(packets):
            if columns is not None:
                self._emit(PACKET, {"region": self._config.region, **columns}, len(packets["observed_ns"]))
            yield

    def _legs(self, rows: list[LegRow]) -> None:
        known = [
            (session, row)
            for row in rows
            if (session := row.session.session if isinstance(row.session, Flow) else row.session) is not None
        ]
        columns: dict[str, Array | str] = {
            "session_id": uuids(np.frombuffer(b"".join(session for session, _ in known), np.uint8)),
            "region": self._config.region,
            "observed_ns": pa.array([row.at_ns for _, row in known], pa.int64()).cast(TIME),
            "leg": pa.array([row.leg for _, row in known], pa.string()).dictionary_encode(),
            "method": pa.array([row.method for _, row in known], pa.string()).dictionary_encode(),
            "rtt_us": pa.array([min(row.rtt_ns // 1000, _US_MAX) for _, row in known], pa.uint32()),
            "remote_region": pa.array([row.region for _, row in known], pa.string()).dictionary_encode(),
        }
        self._emit(LEG, columns, len(known))
        self._capture.give_up(LEG.name, "no_session", len(rows) - len(known))

    def _emit(self, fact: FactType, columns: Mapping[str, Array | str], rows: int) -> None:
        if rows:
            self._sink.add_columns(fact, columns, rows)
            self.emitted[fact.name] += rows


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


def make_deriver(config: EdgeConfig) -> Deriver:
    """Return the fastest way that is to be had here."""
    library = wire.load()
    if config.compiled and library.problem is None:
        return CompiledDeriver(library, config.limits.streams_per_tap)
    return PortableDeriver(config.limits.streams_per_tap)
