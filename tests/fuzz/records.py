"""Several datagrams in one fuzz input: a byte that says from where and how, two with the length, and the datagram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

_HEAD: Final = 3
_MOST: Final = 64


def pack(records: Iterable[tuple[int, bytes]]) -> bytes:
    """Write records."""
    return b"".join(bytes((kind,)) + len(data).to_bytes(2, "big") + data for kind, data in records)


def unpack(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read records, the last one cut short if it is; at most 64."""
    at = 0
    for _ in range(_MOST):
        if at + _HEAD > len(data):
            return
        end = at + _HEAD + int.from_bytes(data[at + 1 : at + _HEAD], "big")
        yield data[at], data[at + _HEAD : end]
        at = end
