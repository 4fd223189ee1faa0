"""RTP headers, one packet at a time (`voice.rtp`) and in columns (the edge's `heads`): never more than `RtpError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from relay.edge import heads
from relay.edge.capture import HEAD_BYTES
from tests.fuzz import messages_of
from voice import rtp

# Not `relay.edge.heads`: columns have no branches to be seen, and atheris never frees what an instrumented comparison
# of arrays gives, which is 5 kB an input.
MODULES: Final[tuple[str, ...]] = ("voice.rtp",)

_LEVEL_ID: Final = 1


def seeds() -> Mapping[str, bytes]:
    """Headers with what may be in them."""
    return {
        "plain": messages_of.rtp(),
        "level": messages_of.rtp(level=0x9A),
        "level-two-byte": messages_of.rtp(level=0x9A, two_byte=True),
        "csrcs": messages_of.rtp(csrcs=3, level=4),
        "padded": messages_of.rtp(pad=8),
        "rtcp": b"\x80\xc8\0\6" + bytes(24),
    }


def run(data: bytes) -> None:
    """Read it both ways; where both can, they agree."""
    kind = rtp.classify(data)
    try:
        header = rtp.parse_header(data, _LEVEL_ID)
    except rtp.RtpError:
        header = None
    if header is not None:
        assert rtp.FIXED_HEADER_BYTES <= header.header_bytes <= len(data)
        try:
            assert len(rtp.payload(data, header)) <= len(data)
        except rtp.RtpError:
            assert header.padding
    if kind is not rtp.PacketKind.RTP or len(data) < rtp.FIXED_HEADER_BYTES:
        return
    table = np.frombuffer(data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), np.uint8).reshape(1, HEAD_BYTES)
    columns = heads.read(table, np.array([len(data)]), np.array([_LEVEL_ID]))
    if header is None:
        return
    assert (int(columns.ssrc[0]), int(columns.seq[0]), int(columns.rtp_ts[0]), int(columns.payload_type[0])) == (
        header.ssrc,
        header.sequence_number,
        header.timestamp,
        header.payload_type,
    )
    assert bool(columns.marker[0]) == header.marker
    if columns.has_level[0]:
        assert (int(columns.level[0]), bool(columns.voice[0])) == (header.audio_level_dbov, header.voice_activity)
    elif header.header_bytes <= HEAD_BYTES:
        assert header.audio_level_dbov is None
