from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.edge.capture import HEAD_BYTES
from relay.edge.heads import Heads, read
from voice.rtp import RtpError, parse_header


def columns(packets: list[bytes], level_id: int | None) -> Heads:
    sizes = np.array([len(packet) for packet in packets], dtype=np.int64)
    level_ids = np.full(len(packets), level_id or 0, dtype=np.int64)
    table = b"".join(packet[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0") for packet in packets)
    return read(np.frombuffer(table, np.uint8).reshape(-1, HEAD_BYTES), sizes, level_ids)


def check_against_the_reference(packets: list[bytes], level_id: int | None) -> None:
    heads = columns(packets, level_id)
    for n, packet in enumerate(packets):
        try:
            header = parse_header(packet, level_id)
        except RtpError:
            assert not heads.has_level[n]
            continue
        assert (heads.seq[n], heads.rtp_ts[n], heads.ssrc[n]) == (
            header.sequence_number,
            header.timestamp,
            header.ssrc,
        )
        assert (heads.payload_type[n], heads.marker[n]) == (header.payload_type, header.marker)
        if header.audio_level_dbov is None:
            assert not heads.has_level[n]
        elif header.header_bytes <= HEAD_BYTES:
            assert heads.has_level[n]
        if heads.has_level[n]:
            assert (heads.level[n], heads.voice[n]) == (header.audio_level_dbov, header.voice_activity)


first_bytes = st.integers(0x80, 0xBF).map(lambda octet: bytes([octet]))
anything = st.builds(lambda first, rest: first + rest, first_bytes, st.binary(min_size=11, max_size=120))
element_bytes = st.sampled_from(
    [
        b"\0",
        b"\x10\xaa",
        b"\x10\x7f",
        b"\x21\1\2",
        b"\x32\1\2\3",
        b"\xf0\0",
        b"\2\1\5",
        b"\1\1\x85",
        b"\1\0",
        b"\3\2\1\1",
    ]
)


@st.composite
def extended(draw: st.DrawFn) -> bytes:
    body = b"".join(draw(st.lists(element_bytes, max_size=14)))
    body += bytes(-len(body) % 4)
    profile = draw(st.sampled_from([0xBEDE, 0x1000, 0x100F, 0xABCD]))
    csrcs = draw(st.integers(0, 4))
    words = draw(st.sampled_from([len(body) // 4, len(body) // 4 + 1, 0]))
    header = struct.pack("!BBHII", 0x90 | csrcs, draw(st.integers(0, 255)), 7, 8, 9) + bytes(4 * csrcs)
    return header + struct.pack("!HH", profile, words) + body + draw(st.binary(max_size=8))


@given(st.lists(st.one_of(anything, extended()), min_size=1, max_size=12), st.sampled_from([None, 1, 2, 3, 15]))
def test_columns_equal_the_parser_of_single_packets(packets: list[bytes], level_id: int | None) -> None:
    check_against_the_reference(packets, level_id)


@pytest.mark.parametrize("octet", [0x00, 0x80, 0x7F, 0xFF, 0x9E])
def test_audio_level_beside_other_extensions(octet: int) -> None:
    extension = b"\x32\1\2\3" + bytes([0x10, octet]) + b"\0\0"
    packet = struct.pack("!BBHII", 0x90, 111, 65_535, 2**32 - 1, 2**32 - 1) + b"\xbe\xde\0\2" + extension + b"opus"
    heads = columns([packet], 1)
    assert heads.has_level[0]
    assert heads.level[0] == -(octet & 0x7F)
    assert heads.voice[0] == (octet >= 0x80)
    assert (heads.seq[0], heads.rtp_ts[0], heads.ssrc[0]) == (65_535, 2**32 - 1, 2**32 - 1)


def test_a_level_beyond_the_kept_bytes_is_unknown_not_wrong() -> None:
    body = b"\x2f" + bytes(16) + b"\x2f" + bytes(16) + b"\x2f" + bytes(16) + b"\x10\x8a\0"
    packet = struct.pack("!BBHII", 0x90, 111, 1, 2, 3) + b"\xbe\xde" + struct.pack("!H", len(body) // 4 + 1) + body
    packet += bytes(8)
    assert not columns([packet], 1).has_level[0]
