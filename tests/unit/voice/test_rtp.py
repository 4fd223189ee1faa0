"""RTP headers: every field, every form of extension, and no surprise on any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.rtp import PacketKind, RtpError, classify, extensions, parse_header, payload


def packet(
    first: int = 0x80,
    *,
    marker: bool = False,
    csrcs: tuple[int, ...] = (),
    extension: bytes | None = None,
    body: bytes = b"",
) -> bytes:
    first |= len(csrcs) | (0x10 if extension is not None else 0)
    head = struct.pack("!BBHII", first, 111 | marker << 7, 4711, 960, 0xDEADBEEF)
    return head + b"".join(struct.pack("!I", csrc) for csrc in csrcs) + (extension or b"") + body


def one_byte(*elements: bytes) -> bytes:
    return block(0xBEDE, b"".join(elements))


def block(profile: int, data: bytes) -> bytes:
    data += bytes(-len(data) % 4)
    return struct.pack("!HH", profile, len(data) // 4) + data


def test_the_fixed_header() -> None:
    header = parse_header(packet(marker=True, body=b"voice"))
    assert header.payload_type == 111
    assert header.marker
    assert (header.sequence_number, header.timestamp, header.ssrc) == (4711, 960, 0xDEADBEEF)
    assert (header.header_bytes, header.csrcs, header.padding) == (12, (), False)
    assert (header.audio_level_dbov, header.voice_activity) == (None, None)


def test_csrcs_and_extension_are_part_of_the_header() -> None:
    data = packet(csrcs=(1, 2), extension=one_byte(b"\x10\xff"), body=b"voice")
    header = parse_header(data)
    assert header.csrcs == (1, 2)
    assert header.header_bytes == len(data) - 5
    assert payload(data, header) == b"voice"


def test_audio_level_in_the_one_byte_form() -> None:
    data = packet(extension=one_byte(b"\x32abc", b"\x00", b"\x10\x9e"))
    header = parse_header(data, audio_level_id=1)
    assert (header.audio_level_dbov, header.voice_activity) == (-30, True)


def test_audio_level_in_the_two_byte_form() -> None:
    data = packet(extension=block(0x1005, b"\x05\x00" + b"\x00" + b"\x81\x01\x7f"))
    header = parse_header(data, audio_level_id=0x81)
    assert (header.audio_level_dbov, header.voice_activity) == (-127, False)


def test_an_element_of_no_octets_is_no_level() -> None:
    assert parse_header(packet(extension=block(0x1000, b"\x05\x00")), audio_level_id=5).audio_level_dbov is None


def test_the_stop_id_ends_the_block() -> None:
    assert list(extensions(0xBEDE, b"\x10\x01\xf0\x20\x02\x00")) == [(1, b"\x01")]


def test_an_element_that_overruns_its_block_is_left_out() -> None:
    assert list(extensions(0xBEDE, b"\x10\x01\x25\x02")) == [(1, b"\x01")]
    assert list(extensions(0x1000, b"\x01\x01\x02\x03")) == [(1, b"\x02")]


def test_another_profile_is_skipped() -> None:
    data = packet(extension=block(0xABCD, b"\x10\x9e\x00\x00"), body=b"v")
    header = parse_header(data, audio_level_id=1)
    assert header.audio_level_dbov is None
    assert payload(data, header) == b"v"


def test_padding_is_cut_off() -> None:
    data = packet(0xA0, body=b"voice\x00\x00\x03")
    header = parse_header(data)
    assert header.padding
    assert payload(data, header) == b"voice"


@pytest.mark.parametrize("body", [b"", b"\x00", b"voice\x07"], ids=["none", "zero", "longer than the payload"])
def test_padding_that_cannot_be(body: bytes) -> None:
    data = packet(0xA0, body=body)
    with pytest.raises(RtpError, match="padding of"):
        payload(data, parse_header(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 octets"),
        (packet()[:11], "11 octets"),
        (packet(0x40), "version 1"),
        (packet(0x83), "3 CSRCs"),
        (packet(0x90), "extension header"),
        (packet(0x90, body=b"\xbe\xde\x00\x01abc"), "1 words"),
    ],
)
def test_what_is_not_rtp(data: bytes, message: str) -> None:
    with pytest.raises(RtpError, match=message):
        parse_header(data)


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 255), st.booleans())
def test_any_bytes_give_a_header_or_an_rtp_error(data: bytes, level_id: int, as_rtp: bool) -> None:
    if as_rtp and data:
        data = bytes([0x80 | data[0] & 0x3F]) + data[1:]
    classify(data)
    try:
        header = parse_header(data, level_id)
        body = payload(data, header)
    except RtpError:
        return
    assert 12 <= header.header_bytes <= len(data)
    assert len(body) <= len(data) - header.header_bytes
    assert header.audio_level_dbov is None or -127 <= header.audio_level_dbov <= 0


@settings(deadline=None)
@given(st.binary(min_size=12, max_size=60))
def test_views_are_read_like_bytes(data: bytes) -> None:
    data = b"\x90" + data[1:]
    results = []
    for form in (bytes(data), bytearray(data), memoryview(data)):
        try:
            results.append(parse_header(form, 1))
        except RtpError as error:
            results.append(str(error))  # type: ignore[arg-type]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"\x00\x01", PacketKind.STUN),
        (b"\x03\x00", PacketKind.STUN),
        (b"\x04\x00", PacketKind.UNKNOWN),
        (b"\x13\x00", PacketKind.UNKNOWN),
        (b"\x14\xfe", PacketKind.DTLS),
        (b"\x3f\xfe", PacketKind.DTLS),
        (b"\x40\x00", PacketKind.UNKNOWN),
        (b"\x7f\x00", PacketKind.UNKNOWN),
        (b"\x80\x6f", PacketKind.RTP),
        (b"\xbf\xef", PacketKind.RTP),
        (b"\x80\xbf", PacketKind.RTP),
        (b"\x80\xc0", PacketKind.RTCP),
        (b"\x80\xdf", PacketKind.RTCP),
        (b"\x80\xe0", PacketKind.RTP),
        (b"\xc0\x00", PacketKind.UNKNOWN),
        (b"\x80", PacketKind.UNKNOWN),
        (b"", PacketKind.UNKNOWN),
    ],
)
def test_demultiplexing(octets: bytes, kind: PacketKind) -> None:
    assert classify(octets) is kind
