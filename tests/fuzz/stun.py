"""STUN as the edge and the transceiver read it: only `StunError`, and both agree on what they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.stun import StunError, read
from relay.transceiver.stun import parse
from tests.fuzz import messages_of

MODULES: Final[tuple[str, ...]] = ("relay.stun", "relay.transceiver.stun", "aioice.stun")


def seeds() -> Mapping[str, bytes]:
    """Checks, answers, indications, and TURN."""
    request = messages_of.check(f"{messages_of.UFRAGS[0]}:theirs")
    return {
        "request": request,
        "response": messages_of.check(response=True),
        "no-username": messages_of.check(),
        "indication": bytes((0, 0x11)) + request[2:],
        "allocate": messages_of.allocate(),
        "header-only": b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12),
    }


def run(data: bytes) -> None:
    """Read it twice."""
    try:
        head = read(data)
    except StunError:
        return
    message = parse(data)
    if message is not None:
        assert message.transaction_id == head.transaction_id
        assert head.username is None or len(head.username.encode()) <= len(data)
