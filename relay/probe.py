"""A probe of the way between an edge and a transceiver: a signed ping, and its signed echo.

    ping (edge → transceiver)   0x5C  flags  nonce                          MAC   18 B
    pong (transceiver → edge)   0x5D  0  nonce  length and name of region   MAC   19 B and the name

The first bytes lie outside every range that RFC 7983 gives to STUN, DTLS, TURN and RTP, and are not an encapsulation
header's. Flag bit 0 says that the edge takes no new calls now; all other bits are reserved, sent as zero and refused
otherwise. The nonce is 8 random bytes, of use once. The MAC is keyed BLAKE2b (RFC 7693) over all before it, cut to 64
bits, under the key of the encapsulation headers; a pong is no longer than it is told to be, and nobody answers a ping
that is not signed.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

PING: Final = 0x5C
PONG: Final = 0x5D
NONCE_BYTES: Final = 8
REGION_BYTES_MAX: Final = 64

_REFUSING: Final = 0x01
_MAC_BYTES: Final = 8
_HEAD_BYTES: Final = 2 + NONCE_BYTES
_PING_BYTES: Final = _HEAD_BYTES + _MAC_BYTES


class ProbeError(ValueError):
    """The bytes are no probe of the expected kind, or not signed with one of our keys."""


class Pong(NamedTuple):
    """A read pong; `region` is the transceiver's, empty if it has not told."""

    nonce: bytes
    region: str


def ping(nonce: bytes, key: bytes, *, refusing: bool = False) -> bytes:
    """Return a ping.

    Args:
        nonce: 8 bytes.
        key: of the encapsulation headers.
        refusing: whether the edge takes no new calls now.

    Raises:
        ProbeError: the nonce has another length than 8.

    """
    if len(nonce) != NONCE_BYTES:
        raise ProbeError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return _signed(bytes((PING, _REFUSING * refusing)) + nonce, key)


def refuses(ping: bytes) -> bool:
    """Whether the edge that sent a ping, which `pong` has answered, takes no new calls now."""
    return bool(ping[1] & _REFUSING)


def pong(data: bytes, keys: Sequence[bytes], region: str) -> bytes:
    """Return the answer to a ping, signed with the key that the ping was signed with.

    Args:
        data: the ping.
        keys: that it may be signed with.
        region: told to the edge; left out if its UTF-8 form is above 64 bytes.

    Raises:
        ProbeError: `data` is no ping of ours.

    """
    if len(data) != _PING_BYTES or data[0] != PING or data[1] & ~_REFUSING:
        raise ProbeError(f"{len(data)} bytes are no ping")
    key = _signer(data, keys)
    name = region.encode()
    name = name if len(name) <= REGION_BYTES_MAX else b""
    return _signed(bytes((PONG, 0)) + data[2:_HEAD_BYTES] + bytes((len(name),)) + name, key)


def read_pong(data: bytes, keys: Sequence[bytes]) -> Pong:
    """Read what `pong` returned.

    Raises:
        ProbeError: `data` is no pong of ours.

    """
    size = data[_HEAD_BYTES] if len(data) > _HEAD_BYTES else 0
    end = _HEAD_BYTES + 1 + size
    if len(data) != end + _MAC_BYTES or data[0] != PONG or data[1] or size > REGION_BYTES_MAX:
        raise ProbeError(f"{len(data)} bytes are no pong")
    _signer(data, keys)
    try:
        return Pong(data[2:_HEAD_BYTES], data[_HEAD_BYTES + 1 : end].decode())
    except UnicodeDecodeError as error:
        raise ProbeError("the region's name is not UTF-8") from error


def _signed(body: bytes, key: bytes) -> bytes:
    return body + _mac(body, key)


def _signer(data: bytes, keys: Sequence[bytes]) -> bytes:
    """Return the key that a probe is signed with."""
    for key in keys:
        if hmac.compare_digest(_mac(data[:-_MAC_BYTES], key), data[-_MAC_BYTES:]):
            return key
    raise ProbeError("the probe's MAC is of none of our keys")


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES, person=b"sidetone probe").digest()
