from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import count

import pytest
from aioice import stun

from relay.edge import EdgeConfig
from relay.ufrag import mint

KEY = bytes(range(32))
ALPHA, BETA = ("10.0.0.1", 7000), ("10.0.0.2", 7000)


@pytest.fixture
def config() -> EdgeConfig:
    return EdgeConfig(
        name="edge-1",
        region="test",
        bind=("127.0.0.1", 0),
        internal_bind=("127.0.0.1", 0),
        transceivers={"alph": ALPHA, "beta": BETA},
        keys={1: KEY},
        host_id="host-1",
    )


@pytest.fixture
def ufrag() -> Callable[..., str]:
    numbers = count(1)

    def make(code: str = "alph", key: bytes = KEY, key_id: int = 1) -> str:
        return mint(code, key, key_id, (next(numbers) << 4).to_bytes(5, "big"))

    return make


@pytest.fixture
def check() -> Callable[..., bytes]:
    """A STUN binding message as a client or transceiver makes it."""
    numbers = count(1)

    def make(username: str | None = None, *, answer_to: bytes | None = None) -> bytes:
        message = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.REQUEST if answer_to is None else stun.Class.RESPONSE,
            transaction_id=next(numbers).to_bytes(12, "big") if answer_to is None else answer_to[8:20],
        )
        if username is not None:
            message.attributes["USERNAME"] = username
        message.add_message_integrity(b"password")
        return bytes(message)

    return make


@pytest.fixture
def rtp() -> Callable[..., bytes]:
    def make(seq: int, *, ssrc: int = 7, ts: int | None = None, payload: bytes = b"opus", pt: int = 111) -> bytes:
        return struct.pack("!BBHII", 0x80, pt, seq & 0xFFFF, seq * 960 if ts is None else ts, ssrc) + payload

    return make
