"""The header between edge and transceiver: only `EncapError`, and what is read is what would be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.encap import EncapError, down_header, read_down, read_up, up_header
from tests.fuzz.messages_of import HEADER_KEY, SESSION

MODULES: Final[tuple[str, ...]] = ("relay.encap",)


def seeds() -> Mapping[str, bytes]:
    """Both ways, both families, and cut off."""
    up, down = up_header("192.0.2.1", 4000, HEADER_KEY), down_header("192.0.2.1", 4000, SESSION, HEADER_KEY, 3)
    return {
        "up": up + b"datagram",
        "up-ipv6": up_header("2001:db8::1", 1, HEADER_KEY) + b"datagram",
        "down": down + b"datagram",
        "down-ipv6": down_header("2001:db8::1", 1, SESSION, HEADER_KEY) + b"datagram",
        "cut": down[:20],
        "foreign-key": up_header("192.0.2.1", 4000, bytes(32)) + b"datagram",
    }


def run(data: bytes) -> None:
    """Read it as either. Nobody without the key makes one, so what is signed here was signed as a seed."""
    try:
        up = read_up(data, [HEADER_KEY])
        assert up_header(*up.client, HEADER_KEY) == data[: up.offset]
    except EncapError:
        pass
    try:
        down = read_down(data, [HEADER_KEY])
        assert down_header(*down.client, down.session_id, HEADER_KEY, down.audio_level_id) == data[: down.offset]
    except EncapError:
        pass
