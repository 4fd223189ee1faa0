"""What the taps saw, kept raw and bounded in columns until the flush path turns it into facts.

The hot path pays for one row of preallocated columns per RTP packet and nothing else, whether it is compiled or not.
When a bound is reached the row is shed and counted: telemetry gives way, voice does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from eventlog.schema import LEG, PACKET
from relay.edge.flows import Flow

HEAD_BYTES: Final = 64
"""Bytes kept of each packet: the fixed header (RFC 3550, section 5.1) and room for the usual extensions."""

EDGE_UP: Final = 0
EDGE_DOWN: Final = 1
TAPS: Final = ("edge_up", "edge_down")

UNKNOWN_TOS: Final = -1

FILLED: Final = 0
SEEN: Final = 1
FULL: Final = 2
OVERLOAD: Final = 3


@dataclass(frozen=True, slots=True)
class Columns:
    """Packets, one row each, in the order of their capture.

    Attributes:
        head: uint8, HEAD_BYTES a row, zeros where the packet is shorter.
        at_ns: int64, receive time (UTC).
        owner: uint32, see `owners`.
        size: uint16, UDP payload bytes.
        tos: int16, the TOS octet, UNKNOWN_TOS where it is not known.
        tap: uint8, EDGE_UP or EDGE_DOWN.

    """

    head: npt.NDArray[np.uint8]
    at_ns: npt.NDArray[np.int64]
    owner: npt.NDArray[np.uint32]
    size: npt.NDArray[np.uint16]
    tos: npt.NDArray[np.int16]
    tap: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the rows."""
        return len(self.at_ns)

    def rows(self, which: slice | npt.NDArray[np.bool_]) -> Columns:
        """Return some of the rows: a view for a slice, a copy for a mask."""
        return Columns(
            self.head[which], self.at_ns[which], self.owner[which], self.size[which], self.tos[which], self.tap[which]
        )

    @staticmethod
    def empty(rows: int) -> Columns:
        """Return columns of zeros."""
        return Columns(
            np.zeros((rows, HEAD_BYTES), np.uint8),
            np.zeros(rows, np.int64),
            np.zeros(rows, np.uint32),
            np.zeros(rows, np.uint16),
            np.zeros(rows, np.int16),
            np.zeros(rows, np.uint8),
        )


class LegRow(NamedTuple):
    """One RTT sample of a session, or of the flow that will learn it; `at_ns` is the answer's receive time.

    `region` is that of the far end, None if not told.
    """

    session: bytes | Flow
    leg: str
    at_ns: int
    rtt_ns: int
    method: str = "stun"
    region: str | None = None


class Capture:
    """Rows since the last flush. Belongs to the loop; not thread-safe.

    Attributes:
        columns: where packets go now: rows up to `counts[FILLED]` are in use.
        counts: uint64: rows in use, and since the start: packets seen, shed as no row was left (`full`), shed as the
            edge was behind (`overload`). Whoever captures writes them.
        shedding: packets are counted as `overload` and not kept.

    """

    def __init__(self, rows: int) -> None:
        self._capacity = rows
        self._pair = (Columns.empty(rows), Columns.empty(rows))
        self.columns = self._pair[0]
        self.counts: npt.NDArray[np.uint64] = np.zeros(4, np.uint64)
        self._fast_counts = self.counts.data  # whose elements are plain integers
        self._broken_at = 0
        self.legs: list[LegRow] = []
        self.shedding = False
        self._shed: dict[str, Counter[str]] = {PACKET.name: Counter(), LEG.name: Counter()}

    @property
    def captured(self) -> int:
        """RTP packets seen."""
        return int(self.counts[SEEN])

    @property
    def waiting(self) -> int:
        """Rows held."""
        return int(self.counts[FILLED])

    @property
    def shed(self) -> dict[str, Counter[str]]:
        """Rows given up so far, by type and reason; may be read from any thread."""
        packets = self._shed[PACKET.name].copy() | Counter(
            full=int(self.counts[FULL]), overload=int(self.counts[OVERLOAD])
        )
        return {PACKET.name: +packets, LEG.name: +self._shed[LEG.name].copy()}

    def give_up(self, fact: str, reason: str, rows: int) -> None:
        """Count rows that will become no fact."""
        if rows:
            self._shed[fact][reason] += rows

    def packet(self, flow: Flow, tap: int, data: bytes, at_ns: int, tos: int) -> None:
        """Keep one RTP packet, at least its fixed header long, seen at a tap."""
        counts = self._fast_counts
        row = counts[FILLED]
        counts[SEEN] += 1
        if self.shedding or row >= self._capacity:
            counts[OVERLOAD if self.shedding else FULL] += 1
            return
        columns = self.columns
        columns.head[row] = np.frombuffer(data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), np.uint8)
        columns.at_ns[row] = at_ns
        columns.owner[row] = flow.owner
        columns.size[row] = len(data)
        columns.tos[row] = tos
        columns.tap[row] = tap
        counts[FILLED] = row + 1

    def leg(self, row: LegRow) -> None:
        """Keep one RTT sample."""
        if len(self.legs) >= self._capacity:
            self.give_up(LEG.name, "full", 1)
            return
        self.legs.append(row)

    def take(self) -> tuple[Columns, list[LegRow], bool]:
        """Hand over all rows, and whether packets were shed since the last time; start afresh.

        The columns are good until the call after the next.
        """
        filled = int(self.counts[FILLED])
        lost = int(self.counts[FULL] + self.counts[OVERLOAD])
        taken = self.columns.rows(slice(0, filled)), self.legs, lost != self._broken_at
        self.columns = self._pair[self.columns is self._pair[0]]
        self.counts[FILLED] = 0
        self.legs, self._broken_at = [], lost
        return taken
