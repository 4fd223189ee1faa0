"""RTP headers as bytes: which protocol a datagram is, and the fields of an RTP header.

RFC 3550 §5.1 (header), RFC 7983 and RFC 5761 §4 (demultiplexing), RFC 8285 (header extensions), RFC 6464 (audio
level). All of it stays in clear under SRTP (RFC 3711 §3.1), so it can be read without a key. Padding is the exception:
its length octet is encrypted, so `parse_header` only reports the flag and `payload` is for decrypted packets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

RTP_VERSION: Final = 2
FIXED_HEADER_BYTES: Final = 12
ONE_BYTE_PROFILE: Final = 0xBEDE  # RFC 8285 §4.2
TWO_BYTE_PROFILE: Final = 0x100  # RFC 8285 §4.3: the upper 12 bits; the lower 4 are application bits
STOP_ID: Final = 15  # RFC 8285 §4.2: a one-byte element with this id ends the block

_FIXED: Final = struct.Struct("!BBHII")
_EXTENSION: Final = struct.Struct("!HH")


class RtpError(ValueError):
    """The bytes are not a well-formed RTP packet."""


class PacketKind(StrEnum):
    """What a datagram on a multiplexed WebRTC port carries."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    UNKNOWN = "unknown"


class RtpHeader(NamedTuple):
    """One RTP header.

    Attributes:
        payload_type: 0 … 127.
        marker: for audio, the first packet of a talkspurt (RFC 3551 §4.1).
        sequence_number: 0 … 65535.
        timestamp: 0 … 2³²-1, in the payload's clock.
        ssrc: 0 … 2³²-1.
        header_bytes: octets before the payload, CSRCs and extension included.
        audio_level_dbov: RFC 6464 level, 0 (loudest) … -127; None if absent or not asked for.
        voice_activity: RFC 6464 V bit; None where the level is.
        csrcs: contributing sources.
        padding: the P bit.

    """

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int
    header_bytes: int
    audio_level_dbov: int | None
    voice_activity: bool | None
    csrcs: tuple[int, ...]
    padding: bool


_KIND_BY_FIRST_OCTET: Final = tuple(
    PacketKind.STUN
    if octet <= 3  # noqa: PLR2004 - the ranges of RFC 7983 §7
    else PacketKind.DTLS
    if 20 <= octet <= 63  # noqa: PLR2004
    else PacketKind.RTP
    if 128 <= octet <= 191  # noqa: PLR2004
    else PacketKind.UNKNOWN
    for octet in range(256)
)
_RTCP_FIRST: Final = 192  # RFC 5761 §4: RTCP's packet types, read as RTP's marker and payload type
_RTCP_LAST: Final = 223


def classify(data: bytes | bytearray | memoryview) -> PacketKind:
    """Tell the protocol of one UDP datagram by its first two octets (RFC 7983 §7, RFC 5761 §4).

    Never raises: what fits nothing is UNKNOWN, the empty datagram included.
    """
    if not data:
        return PacketKind.UNKNOWN
    kind = _KIND_BY_FIRST_OCTET[data[0]]
    if kind is PacketKind.RTP:
        if len(data) < 2:  # noqa: PLR2004 - two octets tell RTP from RTCP
            return PacketKind.UNKNOWN
        if _RTCP_FIRST <= data[1] <= _RTCP_LAST:
            return PacketKind.RTCP
    return kind


def parse_header(data: bytes | bytearray | memoryview, audio_level_id: int | None = None) -> RtpHeader:
    """Read the header of one RTP or SRTP packet.

    Args:
        data: the whole UDP payload.
        audio_level_id: the identifier negotiated for RFC 6464 (`a=extmap`), or None to skip the extensions.

    Raises:
        RtpError: the version is not 2, or the packet ends inside its header.

    """
    size = len(data)
    if size < FIXED_HEADER_BYTES:
        raise RtpError(f"{size} octets are shorter than an RTP header ({FIXED_HEADER_BYTES})")
    first, second, sequence_number, timestamp, ssrc = _FIXED.unpack_from(data)
    if first >> 6 != RTP_VERSION:
        raise RtpError(f"RTP version {first >> 6} is not {RTP_VERSION}")
    end = FIXED_HEADER_BYTES
    csrcs: tuple[int, ...] = ()
    if csrc_count := first & 0x0F:
        end += 4 * csrc_count
        if end > size:
            raise RtpError(f"{csrc_count} CSRCs do not fit into {size} octets")
        csrcs = struct.unpack_from(f"!{csrc_count}I", data, FIXED_HEADER_BYTES)
    level: int | None = None
    voice: bool | None = None
    if first & 0x10:
        profile, start, end = _extension(data, end)
        if audio_level_id is not None:
            level, voice = _audio_level(profile, bytes(data[start:end]), audio_level_id)
    return RtpHeader(
        second & 0x7F,
        bool(second & 0x80),
        sequence_number,
        timestamp,
        ssrc,
        end,
        level,
        voice,
        csrcs,
        bool(first & 0x20),
    )


def _extension(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int, int]:
    """Profile, start and end of the extension block whose header is at `at` (RFC 3550 §5.3.1)."""
    size = len(data)
    start = at + _EXTENSION.size
    if start > size:
        raise RtpError(f"the extension header at octet {at} does not fit into {size} octets")
    profile, words = _EXTENSION.unpack_from(data, at)
    end = start + 4 * words
    if end > size:
        raise RtpError(f"an extension of {words} words at octet {start} does not fit into {size} octets")
    return profile, start, end


def _audio_level(profile: int, block: bytes, audio_level_id: int) -> tuple[int | None, bool | None]:
    for identifier, element in extensions(profile, block):
        if identifier == audio_level_id and element:
            return -(element[0] & 0x7F), bool(element[0] & 0x80)
    return None, None


def extensions(profile: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (identifier, data) of the elements of a header extension (RFC 8285 §4.2, §4.3).

    A profile that is neither form yields nothing, and so does the rest of a block whose last element overruns it: a
    damaged extension must not cost the packet.
    """
    if profile == ONE_BYTE_PROFILE:
        prefix = 1
    elif profile >> 4 == TWO_BYTE_PROFILE:
        prefix = 2
    else:
        return
    at = 0
    while at < len(block):
        if block[at] == 0:  # one octet of padding, in both forms
            at += 1
            continue
        if prefix == 1:
            identifier, size = block[at] >> 4, (block[at] & 0x0F) + 1
            if identifier == STOP_ID:
                return
        elif at + 1 < len(block):
            identifier, size = block[at], block[at + 1]
        else:
            return
        at += prefix
        if at + size > len(block):
            return
        if identifier:  # RFC 8285 §4.2: identifier 0 with a length is to be ignored
            yield identifier, block[at : at + size]
        at += size


def element(data: bytes, identifier: int) -> bytes | None:
    """Return the data of one element of a packet's header extension; None if it has none.

    Raises:
        RtpError: as `parse_header`.

    """
    if len(data) < FIXED_HEADER_BYTES:
        raise RtpError(f"{len(data)} octets are shorter than an RTP header ({FIXED_HEADER_BYTES})")
    if not data[0] & 0x10:
        return None
    profile, start, end = _extension(data, FIXED_HEADER_BYTES + 4 * (data[0] & 0x0F))
    return next((found for name, found in extensions(profile, data[start:end]) if name == identifier), None)


def payload(data: bytes, header: RtpHeader) -> bytes:
    """Return the payload of a decrypted RTP packet without its padding (RFC 3550 §5.1).

    Raises:
        RtpError: the padding length is zero or longer than the payload.

    """
    end = len(data)
    if header.padding:
        padding = data[-1] if end > header.header_bytes else 0
        if not 0 < padding <= end - header.header_bytes:
            raise RtpError(f"padding of {padding} octets in a payload of {end - header.header_bytes}")
        end -= padding
    return data[header.header_bytes : end]
