"""Identifiers that sort by time."""

from __future__ import annotations

import uuid
from typing import Final

RANDOM_BYTES: Final = 10
"""Random octets that `uuid7` takes; 74 of their 80 bits are used."""


def uuid7(now_ns: int, random_bytes: bytes) -> uuid.UUID:
    """Make a UUIDv7 (RFC 9562, section 5.7).

    Identifiers of different milliseconds sort by time, as numbers, bytes and text alike; within one millisecond they
    sort by the random bytes.

    Args:
        now_ns: nanoseconds since the Unix epoch; only whole milliseconds are kept.
        random_bytes: `RANDOM_BYTES` octets.

    Raises:
        ValueError: the time does not fit 48 bits of milliseconds, or the number of octets is wrong.

    """
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"uuid7 needs {RANDOM_BYTES} random bytes, got {len(random_bytes)}")
    milliseconds = now_ns // 1_000_000
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"uuid7 cannot hold the time {now_ns} ns: it keeps 48 bits of milliseconds since 1970")
    random = int.from_bytes(random_bytes, "big")
    rand_a = random >> 68  # 12 bits
    rand_b = random & ((1 << 62) - 1)
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def time_ns(identifier: uuid.UUID) -> int:
    """Return when a UUIDv7 was made, in nanoseconds since the Unix epoch, exact to a millisecond."""
    return (identifier.int >> 80) * 1_000_000
