"""RTP headers of many packets at once, read from the first bytes of each.

`voice.rtp.parse_header` reads one packet and is the reference; this gives the same numbers for columns of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relay.edge.capture import HEAD_BYTES
from voice.rtp import FIXED_HEADER_BYTES, ONE_BYTE_PROFILE, STOP_ID, TWO_BYTE_PROFILE

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Heads:
    """Columns, one element a packet. `level` is 0 … -127 dBov; it and `voice` hold where `has_level`."""

    ssrc: npt.NDArray[np.uint32]
    seq: npt.NDArray[np.uint16]
    rtp_ts: npt.NDArray[np.uint32]
    payload_type: Bytes
    marker: Bools
    level: npt.NDArray[np.int8]
    voice: Bools
    has_level: Bools


def read(table: Bytes, sizes: Ints, level_ids: Ints) -> Heads:
    """Read the first bytes of RTP packets, each at least 12 long.

    `table` has a row of 64 bytes a packet, padded with zeros; `sizes` are the packets' lengths, `level_ids` the
    extension ids of their audio levels (RFC 6464), 0 for none. A level that lies beyond those bytes is not found.
    """
    words = table[:, :FIXED_HEADER_BYTES].copy().view(">u4")
    level, has_level = _audio_levels(table, sizes, level_ids)
    return Heads(
        ssrc=words[:, 2].astype(np.uint32),
        seq=(words[:, 0] & 0xFFFF).astype(np.uint16),
        rtp_ts=words[:, 1].astype(np.uint32),
        payload_type=np.bitwise_and(table[:, 1], np.uint8(0x7F)),
        marker=table[:, 1] > 0x7F,  # noqa: PLR2004 - the top bit
        level=-(level & 0x7F).astype(np.int8),
        voice=level > 0x7F,  # noqa: PLR2004 - RFC 6464, section 3: the top bit is V
        has_level=has_level,
    )


def _audio_levels(table: Bytes, sizes: Ints, level_ids: Ints) -> tuple[Bytes, Bools]:
    level = np.zeros(len(table), dtype=np.uint8)
    found = np.zeros(len(table), dtype=np.bool_)
    # Rows with the X bit, whose extension header lies within what was kept.
    start = FIXED_HEADER_BYTES + 4 * (table[:, 0] & 0x0F).astype(np.int64)
    rows = np.flatnonzero((level_ids > 0) & (table[:, 0] & 0x10 != 0) & (start + 4 <= np.minimum(sizes, HEAD_BYTES)))
    at = start[rows]
    profile = table[rows, at].astype(np.int64) << 8 | table[rows, at + 1]
    at, end = at + 4, at + 4 + 4 * (table[rows, at + 2].astype(np.int64) << 8 | table[rows, at + 3])
    one_byte = profile == ONE_BYTE_PROFILE
    # A packet that ends within its extension is malformed: nothing in it is believed.
    live = (one_byte | (profile >> 4 == TWO_BYTE_PROFILE)) & (end <= sizes[rows])
    while True:
        live &= at + 1 < np.minimum(end, HEAD_BYTES)  # an element has at least one octet after its first
        rows, at, end, one_byte = rows[live], at[live], end[live], one_byte[live]
        if not len(rows):
            return level, found
        first = table[rows, at].astype(np.int64)
        padding = first == 0
        identifier = np.where(one_byte, first >> 4, first)
        length = np.where(one_byte, (first & 0x0F) + 1, table[rows, at + 1])
        data = at + np.where(one_byte, 1, 2)
        stop = one_byte & (identifier == STOP_ID)
        match = ~(padding | stop) & (identifier == level_ids[rows]) & (length > 0) & (data + length <= end)
        hit = match & (data < HEAD_BYTES)
        level[rows[hit]] = table[rows[hit], data[hit]]
        found[rows[hit]] = True
        live = ~(match | stop)
        at = np.where(padding, at + 1, data + length)
