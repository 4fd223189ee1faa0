"""From captured rows to all that a packet fact says: who does it, and the way that numpy does it.

`relay.edge.compiled` does the same where there is a C compiler. What both say of each stream is the same, row for row;
the streams' order among each other is not: the compiled way gives them in the order in which facts are sorted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eventlog.resolution import coarse_us_many
from eventlog.schema import PACKET_TIME_NS, TIME, UUID_TYPE
from relay.edge import heads
from relay.edge.capture import TAPS, UNKNOWN_TOS, Columns
from relay.edge.owners import Owners
from voice.sequence import StreamStats, receive_streams

_BLOCK_ROWS: Final = 8192  # rows worked on together, in steps that voice waits for: smaller blocks cost more in all
_TAP_SHIFT: Final = 32  # a stream's key: code of its session, tap, SSRC
_CODE_SHIFT: Final = 33

Array: TypeAlias = "pa.Array[Any]"
Packets = dict[str, npt.NDArray[Any]]
"""Columns of packets with all that is derived, a stream's packets together and in the order of arrival."""

ALREADY_ARROW: Final = ("stream", "ext_seq", "rtp_ts", "payload_type", "size_bytes", "newly_lost", "represents")
"""Columns of packets that Arrow takes as they are; `represents` is there if packets were thinned."""


class Deriver(Protocol):
    """Belongs to the loop. Its generators stop after every step of work; the last step yields the outcome.

    Attributes:
        block_rows: rows to be worked on together, at most.

    """

    block_rows: int

    @property
    def lost(self) -> int:
        """Packets shown to be missing so far."""

    @property
    def found(self) -> int:
        """Those of them that came after all."""

    @property
    def refused(self) -> int:
        """Rows left out so far: of streams beyond those that a session may have at a tap."""

    def derive(self, rows: Columns, owners: Owners) -> Iterator[Packets | None]:
        """Compute all columns of rows whose session is known."""

    def arrays(self, packets: Packets) -> Iterator[dict[str, Array] | None]:
        """Make a fact's columns of packets: all but region and host."""

    def forget(self, before_ns: int) -> None:
        """Forget streams whose last packet came before an instant (UTC)."""


class _Stream:
    """One SSRC of one session at one tap."""

    __slots__ = ("last_ns", "stats")

    def __init__(self) -> None:
        self.stats = StreamStats()
        self.last_ns = 0


class PortableDeriver:
    """Implements `Deriver` by numpy, wherever Python runs.

    Args:
        streams_per_tap: SSRCs of one session at one tap.

    """

    def __init__(self, streams_per_tap: int) -> None:
        self.block_rows = _BLOCK_ROWS
        self.lost = self.found = self.refused = 0
        self._streams_per_tap = streams_per_tap
        self._streams: dict[int, _Stream] = {}
        self._per_tap: Counter[int] = Counter()

    def derive(self, rows: Columns, owners: Owners) -> Iterator[Packets | None]:
        """Compute all columns in steps; the last one yields them, if rows are left."""
        if not len(rows):
            return
        owner, size = rows.owner, rows.size.astype(np.int64)
        head = heads.read(rows.head, size, owners.level_ids[owner].astype(np.int64))
        yield None
        key = owners.codes[owner] << _CODE_SHIFT | rows.tap.astype(np.int64) << _TAP_SHIFT | head.ssrc
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
        found = int(np.count_nonzero(arrivals.newly_lost < 0))
        self.lost += int(arrivals.newly_lost.sum()) + found
        self.found += found
        yield None
        yield {
            "session": owners.sessions[owner[order]],
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
            "transit_delta_us": np.where(arrivals.transit_known, arrivals.transit_delta_us, np.int32(0)),
            "transit_known": arrivals.transit_known,
            "newly_lost": arrivals.newly_lost,
            "reordered": arrivals.reordered,
            "duplicate": arrivals.duplicate,
        }

    def arrays(self, packets: Packets) -> Iterator[dict[str, Array] | None]:
        """Make a fact's columns of packets, in steps."""
        at_ns, no_level = packets["observed_ns"], ~packets["has_level"]
        columns: dict[str, Array] = {
            "session_id": uuids(packets["session"]),
            "observed_ns": pa.array(at_ns - at_ns % PACKET_TIME_NS).cast(TIME),
            "tap": taps(packets["tap"].astype(np.int32)),
            "audio_level_dbov": pa.array(packets["level"], mask=no_level),
            "voice_activity": pa.array(packets["voice"], mask=no_level),
            "dscp": pa.array((packets["tos"] >> 2).astype(np.uint8), mask=packets["tos"] == UNKNOWN_TOS),
            "transit_delta_us": pa.array(coarse_us_many(packets["transit_delta_us"]), mask=~packets["transit_known"]),
        }
        yield None
        for name in ("marker", "reordered", "duplicate", *ALREADY_ARROW):
            if name in packets:
                columns[name] = pa.array(packets[name])
        yield columns

    def forget(self, before_ns: int) -> None:
        """Forget streams whose last packet came before an instant."""
        for key in [key for key, stream in self._streams.items() if stream.last_ns < before_ns]:
            del self._streams[key]
            left = self._per_tap.pop(key >> _TAP_SHIFT) - 1
            if left:
                self._per_tap[key >> _TAP_SHIFT] = left

    def _within_caps(
        self, key: npt.NDArray[np.int64], order: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Leave out, and count, rows of streams beyond those that a session may have at a tap; the first are let in."""
        refused = []
        starts = _starts(key)
        for one in key[starts[np.argsort(order[starts])]].tolist():
            if one in self._streams:
                continue
            tap = one >> _TAP_SHIFT
            if self._per_tap[tap] < self._streams_per_tap:
                self._per_tap[tap] += 1
                self._streams[one] = _Stream()
            else:
                refused.append(one)
        if not refused:
            return key, order
        keep = ~np.isin(key, refused)
        self.refused += int(np.count_nonzero(~keep))
        return key[keep], order[keep]


def uuids(sessions: npt.NDArray[np.uint8]) -> Array:
    """Make sessions of their bytes, 16 each."""
    octets = np.ascontiguousarray(sessions).reshape(-1)
    return pa.Array.from_buffers(UUID_TYPE, len(octets) // 16, [None, pa.py_buffer(octets.data)])


def taps(codes: npt.NDArray[np.int32]) -> Array:
    """Make names of taps."""
    return pa.DictionaryArray.from_arrays(codes, pa.array(TAPS, pa.string()))


def _starts(key: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return where each run of equal keys begins; there is at least one."""
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
