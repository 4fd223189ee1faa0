"""A transceiver's word to an edge: this session's packets around now are worth keeping in full.

    keep (transceiver → edge)   0x5B  0  client port  client address  session_id  moment  back  ahead   MAC   44 B

The port and the last four octets of the address are there for the kernel, which picks one of the edge's workers by
them (`relay.edge.workers`); they lie where a downward header has them, and are zeros if the client is not known. The
moment is UTC nanoseconds in 64 bits, back and ahead are milliseconds in 16, all in network byte order. The first
byte is outside every range that RFC 7983 gives to STUN, DTLS, TURN and RTP, and is no encapsulation header's and no
probe's. The MAC is keyed BLAKE2b (RFC 7693) over all before it, cut to 64 bits, under the key of the encapsulation
headers. A keep names its moment, so that sent again it says nothing new. It is never answered.
"""

from __future__ import annotations

import hmac
import socket
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

KEEP: Final = 0x5B
SPAN_MS_MAX: Final = 0xFFFF

_MAC_BYTES: Final = 8
_BODY: Final = struct.Struct("!BBH4s16sqHH")
_SESSION_BYTES: Final = 16


class KeepError(ValueError):
    """The bytes are no keep, or not signed with one of our keys."""


class Keep(NamedTuple):
    """Which session, and the milliseconds before and after a moment (UTC ns) that are asked for."""

    session_id: bytes
    at_ns: int
    back_ms: int
    ahead_ms: int


def write_keep(keep: Keep, key: bytes, client: tuple[str, int] | None = None) -> bytes:
    """Return the datagram.

    Args:
        keep: what to say.
        key: from `relay.encap.derive`.
        client: numeric host and port of the session's client, if it is known.

    Raises:
        KeepError: the session id has not 16 bytes, or a number does not fit.

    """
    if len(keep.session_id) != _SESSION_BYTES:
        raise KeepError(f"a session_id has {_SESSION_BYTES} bytes, not {len(keep.session_id)}")
    host, port = client or ("0.0.0.0", 0)  # noqa: S104 - nobody's address
    address = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    try:
        body = _BODY.pack(KEEP, 0, port, address[-4:], *keep)
    except struct.error as error:
        raise KeepError(f"a keep's moment or span does not fit: {error}") from error
    return body + _mac(body, key)


def read_keep(data: bytes, keys: Sequence[bytes]) -> Keep:
    """Read what `write_keep` returned.

    Raises:
        KeepError: `data` is no keep of ours.

    """
    if len(data) != _BODY.size + _MAC_BYTES or data[0] != KEEP or data[1]:
        raise KeepError(f"{len(data)} bytes are no keep")
    body, mac = data[: _BODY.size], data[_BODY.size :]
    if not any(hmac.compare_digest(_mac(body, key), mac) for key in keys):
        raise KeepError("the keep's MAC is of none of our keys")
    return Keep(*_BODY.unpack(body)[4:])


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES, person=b"sidetone keep").digest()
