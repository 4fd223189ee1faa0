"""A guard before aioice's STUN parser, which unauthenticated bytes can make raise more than `ValueError`."""

from __future__ import annotations

import struct
from typing import Final

from aioice import stun

_FIXED_BYTES: Final = {
    0x0003: 4,  # CHANGE-REQUEST
    0x0008: 20,  # MESSAGE-INTEGRITY
    0x000C: 4,  # CHANNEL-NUMBER
    0x000D: 4,  # LIFETIME
    0x0019: 4,  # REQUESTED-TRANSPORT
    0x0024: 4,  # PRIORITY
    0x0025: 0,  # USE-CANDIDATE
    0x8028: 4,  # FINGERPRINT
    0x8029: 8,  # ICE-CONTROLLED
    0x802A: 8,  # ICE-CONTROLLING
}
"""Attributes of fixed length (RFC 8489, section 18.3; RFC 8445, section 16.1; RFC 8656) that the parser unpacks."""


def parse(data: bytes) -> stun.Message | None:
    """Parse a message whose attributes are known to lie within `data` (`relay.stun.read`); None if it is malformed."""
    at = stun.HEADER_LENGTH
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        if _FIXED_BYTES.get(kind, length) != length:
            return None
        at += 4 + (length + 3 & ~3)
    try:
        return stun.parse_message(data)
    except (ValueError, struct.error):
        return None
