"""What an edge and a transceiver say to each other: one datagram is a small header and the original datagram.

    up   (edge → transceiver)   0x5E  flags  client port  client address              MAC   16 B (IPv4), 28 B (IPv6)
    down (transceiver → edge)   0x5F  flags  client port  client address  session_id  MAC   32 B (IPv4), 44 B (IPv6)

Ports and addresses are in network byte order. Flag bit 0 says that the address is IPv6. Downwards, flag bits 1 to 4 are
the RTP header extension id of the audio level (RFC 6464) in this session, 0 if it has none: the edge sees no SDP, and
clients number their extensions as they like. All other bits are reserved, sent as zero and refused otherwise. The
first bytes lie outside every range that RFC 7983 gives to STUN, DTLS, TURN and RTP, so a datagram that lost its header
is never taken for one that has it.

The downward header names the client in full, so an edge that restarted can forward at once, and it teaches the edge
which session a flow belongs to.

The MAC is keyed BLAKE2b (RFC 7693) over all before it, cut to 64 bits, under a key made from the ufrag key. It binds a
client's address to a session and to this deployment: whoever can only send, from wherever, can neither make a
transceiver believe in a client nor an edge in a session. It covers the header and not the datagram, which DTLS and SRTP
protect, so it is the same for every packet of a flow and both ends compute and check it once. Whoever can read the
wire between the two can replay it: on an untrusted path, put the two into a private network.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

UP: Final = 0x5E
DOWN: Final = 0x5F
IPV6: Final = 0x01
LEVEL_ID_MAX: Final = 14
"""Largest extension id of the one-byte form (RFC 8285, section 4.2)."""

SESSION_BYTES: Final = 16
MAC_BYTES: Final = 8
UP_BYTES: Final = (8 + MAC_BYTES, 20 + MAC_BYTES)
"""Length of an upward header, by the IPv6 flag."""

DOWN_BYTES: Final = (UP_BYTES[0] + SESSION_BYTES, UP_BYTES[1] + SESSION_BYTES)
UP_BYTES_MAX: Final = UP_BYTES[1]
DOWN_BYTES_MAX: Final = DOWN_BYTES[1]
KEY_BYTES: Final = 32
ADDRESS_AT: Final = 4
"""Where the client's address begins in either header, behind magic, flags and port."""

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


def derive(ufrag_key: bytes) -> bytes:
    """Return the key for headers that belongs to a ufrag key: who has only the one MAC learns nothing of the other."""
    return blake2b(b"headers", key=ufrag_key[:64], digest_size=KEY_BYTES, person=b"sidetone encap").digest()


def up_header(host: str, port: int, key: bytes) -> bytes:
    """Return the header for a datagram that came from the client at a numeric `host` and `port`.

    `key` is from `derive`.

    Raises:
        EncapError: `host` is not a numeric address, or `port` is out of range.

    """
    return _signed(_client_header(UP, host, port), key)


def down_header(host: str, port: int, session_id: bytes, key: bytes, audio_level_id: int | None = None) -> bytes:
    """Return the header for a datagram of a session to the client at `host` and `port`.

    Args:
        host: numeric address.
        port: 0 … 65535.
        session_id: 16 bytes; zeros: not known.
        key: from `derive`.
        audio_level_id: extension id of the audio level, as the SDP maps it; above 14 it cannot be told.

    Raises:
        EncapError: `host` is not a numeric address, `port` is out of range or `session_id` has not 16 bytes.

    """
    if len(session_id) != SESSION_BYTES:
        raise EncapError(f"a session_id has {SESSION_BYTES} bytes, not {len(session_id)}")
    level_id = audio_level_id if audio_level_id is not None and 0 < audio_level_id <= LEVEL_ID_MAX else 0
    return _signed(_client_header(DOWN, host, port, level_id << _LEVEL_SHIFT) + session_id, key)


def read_up(data: bytes | memoryview, keys: Sequence[bytes]) -> Up:
    """Read what `up_header` wrote with one of `keys` at the start of `data`.

    Raises:
        EncapError: `data` does not start with an upward header, or its MAC is of none of the keys.

    """
    client, end = _read_client(UP, data)
    return Up(client, _verified(data, end, keys))


def read_down(data: bytes | memoryview, keys: Sequence[bytes]) -> Down:
    """Read what `down_header` wrote with one of `keys` at the start of `data`.

    Raises:
        EncapError: `data` does not start with a downward header, or its MAC is of none of the keys.

    """
    client, start = _read_client(DOWN, data)
    end = start + SESSION_BYTES
    if data[1] >> _LEVEL_SHIFT > LEVEL_ID_MAX:
        raise EncapError(f"there is no header extension {data[1] >> _LEVEL_SHIFT} in the one-byte form")
    return Down(client, bytes(data[start:end]), _verified(data, end, keys), data[1] >> _LEVEL_SHIFT or None)


def _signed(header: bytes, key: bytes) -> bytes:
    return header + _mac(header, key)


def _mac(header: bytes, key: bytes) -> bytes:
    return blake2b(header, key=key, digest_size=MAC_BYTES).digest()


def _verified(data: bytes | memoryview, end: int, keys: Sequence[bytes]) -> int:
    """Return where the header ends whose MAC starts at `end`."""
    offset = end + MAC_BYTES
    if len(data) < offset:
        raise EncapError(f"a header of {offset} bytes is cut off after {len(data)}")
    header, given = bytes(data[:end]), bytes(data[end:offset])
    if not any(hmac.compare_digest(_mac(header, key), given) for key in keys):
        raise EncapError("the header's MAC is of none of our keys")
    return offset


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
    host = socket.inet_ntop(_FAMILIES[ipv6], bytes(data[ADDRESS_AT:end]))
    return Client(host, data[2] << 8 | data[3]), end
