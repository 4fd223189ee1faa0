"""Keeps from transceivers: only `KeepError`, and only what is signed is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.keep import Keep, KeepError, read_keep, write_keep
from tests.fuzz.messages_of import HEADER_KEY

MODULES: Final[tuple[str, ...]] = ("relay.keep",)

_KEEP: Final = Keep(bytes(range(16)), 1_790_000_000_000_000_000, 6000, 5000)


def seeds() -> Mapping[str, bytes]:
    """Signed, and with a foreign key."""
    return {"keep": write_keep(_KEEP, HEADER_KEY), "foreign": write_keep(_KEEP, bytes(32))}


def run(data: bytes) -> None:
    """Read it."""
    try:
        keep = read_keep(data, [HEADER_KEY])
    except KeepError:
        return
    assert keep == _KEEP
