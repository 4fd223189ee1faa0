"""What an edge and a transceiver say to each other: one datagram is a small header and the original datagram.

    up   (edge → transceiver)   0x5E  flags  client port  client address                 8 B (IPv4), 20 B (IPv6)
    down (transceiver → edge)   0x5F  flags  client port  client address  session_id    24 B (IPv4), 36 B (IPv6)

Ports and addresses are in network byte order. Flag bit 0 says that the address is IPv6. Downwards, flag bits 1 to 4 are
the RTP header extension id of the audio level (RFC 6464) in this session, 0 if it has none: the edge sees no SDP, and
clients number their extensions as they like. All other bits are reserved, sent as zero and refused otherwise. The
first bytes lie outside every range that RFC 7983 gives to STUN, DTLS, TURN and RTP, so a datagram that lost its header
is never taken for one that has it.

The downward header names the client in full, so an edge that restarted can forward at once, and it teaches the edge
which session a flow belongs to.
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

UP: Final = 0x5E
DOWN: Final = 0x5F
IPV6: Final = 0x01
LEVEL_ID_MAX: Final = 14
"""Largest extension id of the one-byte form (RFC 8285, section 4.2)."""

SESSION_BYTES: Final = 16
UP_BYTES_MAX: Final = 20
DOWN_BYTES_MAX: Final = UP_BYTES_MAX + SESSION_BYTES

_PORT_MAX: Final = 0xFFFF
_CLIENT_BYTES: Final = (8, 20)  # by the IPv6 flag: magic, flags, port, address
_LEVEL_SHIFT: Final = 1
_FLAGS: Final = {UP: IPV6, DOWN: IPV6 | 0x0F << _LEVEL_SHIFT}
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


class EncapError(ValueError):
    """The bytes carry no header of the expected kind. The message says what is wrong with them."""


class Client(NamedTuple):
    """A client's public transport address; `host` is numeric. Equal to the plain pair `(host, port)`."""

    host: str
    port: int


class Up(NamedTuple):
    """A read upward header; the client's datagram starts at `offset`."""

    client: Client
    offset: int


class Down(NamedTuple):
    """A read downward header; the datagram for the client starts at `offset`.

    `session_id` is 16 bytes, zeros if not known; `audio_level_id` is 1 … 14, or None if the session has none.
    """

    client: Client
    session_id: bytes
    offset: int
    audio_level_id: int | None


def up_header(host: str, port: int) -> bytes:
    """Return the header for a datagram that came from the client at a numeric `host` and `port`.

    Raises:
        EncapError: `host` is not a numeric address, or `port` is out of range.

    """
    return _client_header(UP, host, port)


def down_header(host: str, port: int, session_id: bytes, audio_level_id: int | None = None) -> bytes:
    """Return the header for a datagram of a session to the client at `host` and `port`.

    Args:
        host: numeric address.
        port: 0 … 65535.
        session_id: 16 bytes; zeros: not known.
        audio_level_id: extension id of the audio level, as the SDP maps it; above 14 it cannot be told.

    Raises:
        EncapError: `host` is not a numeric address, `port` is out of range or `session_id` has not 16 bytes.

    """
    if len(session_id) != SESSION_BYTES:
        raise EncapError(f"a session_id has {SESSION_BYTES} bytes, not {len(session_id)}")
    level_id = audio_level_id if audio_level_id is not None and 0 < audio_level_id <= LEVEL_ID_MAX else 0
    return _client_header(DOWN, host, port, level_id << _LEVEL_SHIFT) + session_id


def read_up(data: bytes | memoryview) -> Up:
    """Read what `up_header` wrote at the start of `data`.

    Raises:
        EncapError: `data` does not start with an upward header.

    """
    client, offset = _read_client(UP, data)
    return Up(client, offset)


def read_down(data: bytes | memoryview) -> Down:
    """Read what `down_header` wrote at the start of `data`.

    Raises:
        EncapError: `data` does not start with a downward header.

    """
    client, start = _read_client(DOWN, data)
    offset = start + SESSION_BYTES
    if len(data) < offset:
        raise EncapError(f"a downward header of {offset} bytes is cut off after {len(data)}")
    return Down(client, bytes(data[start:offset]), offset, data[1] >> _LEVEL_SHIFT or None)


def _client_header(magic: int, host: str, port: int, flags: int = 0) -> bytes:
    if not 0 <= port <= _PORT_MAX:
        raise EncapError(f"port {port} is not within 0 … {_PORT_MAX}")
    ipv6 = IPV6 if ":" in host else 0
    try:
        address = socket.inet_pton(_FAMILIES[ipv6], host)
    except OSError as error:
        raise EncapError(f"{host!r} is not a numeric IP address") from error
    return bytes((magic, flags | ipv6, port >> 8, port & 0xFF)) + address


def _read_client(magic: int, data: bytes | memoryview) -> tuple[Client, int]:
    size = len(data)
    if size < _CLIENT_BYTES[0]:
        raise EncapError(f"{size} bytes are too few for a header")
    if data[0] != magic:
        raise EncapError(f"the first byte is {data[0]:#04x}, not {magic:#04x}")
    flags = data[1]
    if flags & ~_FLAGS[magic]:
        raise EncapError(f"reserved flags are set: {flags:#04x}")
    ipv6 = flags & IPV6
    end = _CLIENT_BYTES[ipv6]
    if size < end:
        raise EncapError(f"a header of {end} bytes is cut off after {size}")
    host = socket.inet_ntop(_FAMILIES[ipv6], bytes(data[4:end]))
    return Client(host, data[2] << 8 | data[3]), end
