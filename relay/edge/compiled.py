"""From captured rows to packet facts by the compiled half, `wire/derive.c`: columns for Arrow without a detour."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eventlog.schema import PACKET_TIME_NS, TIME
from relay.edge.capture import Columns
from relay.edge.derive import ALREADY_ARROW, Array, Packets, taps, uuids
from relay.edge.owners import Owners
from relay.edge.wire import Library

_STEP_ROWS: Final = 4096  # worked on without a pause: some two tenths of a millisecond; a multiple of eight
_MOST_ROWS: Final = 1 << 20  # worked on together

_DERIVED: Final[dict[str, tuple[type[np.generic], str]]] = {
    "observed_ns": (np.int64, "int64_t[]"),
    "tap": (np.uint8, "uint8_t[]"),
    "stream": (np.uint32, "uint32_t[]"),
    "ext_seq": (np.int64, "int64_t[]"),
    "rtp_ts": (np.uint32, "uint32_t[]"),
    "payload_type": (np.uint8, "uint8_t[]"),
    "marker": (np.bool_, "uint8_t[]"),
    "size_bytes": (np.uint16, "uint16_t[]"),
    "level": (np.int8, "int8_t[]"),
    "voice": (np.bool_, "uint8_t[]"),
    "has_level": (np.bool_, "uint8_t[]"),
    "tos": (np.int16, "int16_t[]"),
    "transit_delta_us": (np.int32, "int32_t[]"),
    "transit_known": (np.bool_, "uint8_t[]"),
    "newly_lost": (np.int32, "int32_t[]"),
    "reordered": (np.bool_, "uint8_t[]"),
    "duplicate": (np.bool_, "uint8_t[]"),
}
_PACKED: Final[dict[str, tuple[type[np.generic], str]]] = {
    "observed_ns": (np.int64, "int64_t[]"),
    "tap": (np.int32, "int32_t[]"),
    "transit_delta_us": (np.int32, "int32_t[]"),
    "dscp": (np.uint8, "uint8_t[]"),
}
_BITS: Final = ("marker", "voice", "reordered", "duplicate", "level_valid", "dscp_valid", "transit_valid")


class CompiledDeriver:
    """Implements `relay.edge.derive.Deriver`.

    Args:
        library: from `wire.load`, without a problem.
        streams_per_tap: SSRCs of one session at one tap.

    Raises:
        MemoryError: there is not enough; also later, by `derive`.

    """

    def __init__(self, library: Library, streams_per_tap: int) -> None:
        self.block_rows = _MOST_ROWS
        self._ffi, self._lib = library.ffi, library.lib
        seed = int.from_bytes(os.urandom(8))
        made: Any = self._lib.derive_new(streams_per_tap, seed)
        if made == self._ffi.NULL:
            raise MemoryError("no memory for an edge's streams")
        self._state: Any = self._ffi.gc(made, self._lib.derive_free)

    @property
    def lost(self) -> int:
        """Packets shown to be missing so far."""
        return int(self._lib.derive_lost(self._state))

    @property
    def found(self) -> int:
        """Those of them that came after all."""
        return int(self._lib.derive_found(self._state))

    @property
    def refused(self) -> int:
        """Rows left out so far."""
        return int(self._lib.derive_refused(self._state))

    def derive(self, rows: Columns, owners: Owners) -> Iterator[Packets | None]:
        """Compute all columns in steps; the last one yields them, if rows are left."""
        lib, state = self._lib, self._state
        if lib.derive_begin(state, self._rows(rows, owners)):
            raise MemoryError(f"no memory for {len(rows)} packets")
        for start in range(0, len(rows), _STEP_ROWS):
            lib.derive_scan(state, start, min(start + _STEP_ROWS, len(rows)))
            yield None
        packets = int(lib.derive_arrange(state))
        yield None
        for start in range(0, len(rows), 2 * _STEP_ROWS):
            lib.derive_place(state, start, min(start + 2 * _STEP_ROWS, len(rows)))
            yield None
        if not packets:
            return
        columns: Packets = {"session": np.empty((packets, 16), np.uint8)}
        columns |= {name: np.empty(packets, dtype) for name, (dtype, _) in _DERIVED.items()}
        out = self._columns(columns)
        for start in range(0, packets, _STEP_ROWS):
            lib.derive_fill(state, start, min(start + _STEP_ROWS, packets), out[0])
            yield None
        yield columns

    def arrays(self, packets: Packets) -> Iterator[dict[str, Array] | None]:
        """Make a fact's columns of packets, in steps."""
        rows = len(packets["observed_ns"])
        packed: Packets = {name: np.empty(rows, dtype) for name, (dtype, _) in _PACKED.items()}
        bits: Packets = {name: np.empty(-(-rows // 8), np.uint8) for name in _BITS}
        given = self._columns({name: np.ascontiguousarray(values) for name, values in packets.items()})
        point = self._ffi.from_buffer
        pointers = {name: point(kind, packed[name]) for name, (_, kind) in _PACKED.items()}
        pointers |= {name: point("uint8_t[]", values) for name, values in bits.items()}
        out = self._ffi.new("derive_packed *", pointers)
        for start in range(0, rows, 2 * _STEP_ROWS):
            self._lib.derive_pack(given[0], start, min(start + 2 * _STEP_ROWS, rows), PACKET_TIME_NS, out)
            yield None
        columns: dict[str, Array] = {
            "session_id": uuids(packets["session"]),
            "observed_ns": _array(TIME, rows, packed["observed_ns"]),
            "tap": taps(packed["tap"]),
            "audio_level_dbov": _array(pa.int8(), rows, packets["level"], bits["level_valid"]),
            "voice_activity": _array(pa.bool_(), rows, bits["voice"], bits["level_valid"]),
            "dscp": _array(pa.uint8(), rows, packed["dscp"], bits["dscp_valid"]),
            "transit_delta_us": _array(pa.int32(), rows, packed["transit_delta_us"], bits["transit_valid"]),
        }
        columns |= {name: _array(pa.bool_(), rows, bits[name]) for name in ("marker", "reordered", "duplicate")}
        columns |= {name: pa.array(packets[name]) for name in ALREADY_ARROW if name in packets}
        yield columns

    def forget(self, before_ns: int) -> None:
        """Forget streams whose last packet came before an instant."""
        self._lib.derive_forget(self._state, before_ns)

    def _rows(self, rows: Columns, owners: Owners) -> Any:
        point = self._ffi.from_buffer
        pointers = {
            "head": point("uint8_t[]", rows.head),
            "at_ns": point("int64_t[]", rows.at_ns),
            "owner": point("uint32_t[]", rows.owner),
            "size": point("uint16_t[]", rows.size),
            "tos": point("int16_t[]", rows.tos),
            "tap": point("uint8_t[]", rows.tap),
            "sessions": point("uint8_t[]", owners.sessions),
            "codes": point("int64_t[]", owners.codes),
            "level_ids": point("uint8_t[]", owners.level_ids),
        }
        counts = {"rows": len(rows), "owners": len(owners.codes)}
        self._held = list(pointers.values())  # alive while the compiled half looks at them
        return self._ffi.new("derive_rows *", pointers | counts)

    def _columns(self, columns: Packets) -> tuple[Any, Any]:
        """Return pointers to columns, and what keeps these alive."""
        point = self._ffi.from_buffer
        pointers = {name: point(kind, columns[name]) for name, (_, kind) in _DERIVED.items()}
        pointers["session"] = point("uint8_t[]", columns["session"])
        return self._ffi.new("derive_columns *", pointers), pointers


def _array(kind: Any, rows: int, values: npt.NDArray[Any], valid: npt.NDArray[np.uint8] | None = None) -> Array:
    """Make an array of memory as it is."""
    buffers = [None if valid is None else pa.py_buffer(valid.data), pa.py_buffer(np.ascontiguousarray(values).data)]
    return pa.Array.from_buffers(kind, rows, buffers)
