"""Real messages of which corpora are made; every one is the same each time it is made."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from aioice import stun

from relay.encap import derive
from relay.transceiver.config import EdgeAddress
from relay.transceiver.ice import SharedConnection
from relay.ufrag import mint

KEY: Final = bytes(range(32))
KEYS: Final = {1: KEY}
HEADER_KEY: Final = derive(KEY)
ALPHA: Final = ("10.0.0.1", 7000)
BETA: Final = ("10.0.0.2", 7000)
UFRAGS: Final = tuple(
    mint(code, KEY, 1, (n << 4).to_bytes(5, "big")) for n, code in enumerate(("alph", "beta", "gone"))
)
PASSWORD: Final = "passwordpasswordpassword"
SESSION: Final = bytes(range(16))
EDGE: Final = EdgeAddress("edge", "test", ("192.0.2.100", 1), ("10.0.0.9", 2))

_LOOP: Final = asyncio.new_event_loop()  # an ICE agent asks for one when it is made; nothing runs on it
_LOOP.close()


def agent() -> SharedConnection:
    """Return a call's ICE agent, whose password everybody knows."""
    asyncio.set_event_loop(_LOOP)
    connection = SharedConnection(UFRAGS[0], EDGE.advertised, lambda _data, _to: None, lambda _ns: None)
    asyncio.set_event_loop(None)
    connection._local_password = PASSWORD
    connection.remote_username, connection.remote_password = "theirs", "q" * 24
    return connection


def check(username: str | None = None, *, number: int = 1, response: bool = False) -> bytes:
    """Return a connectivity check as clients send it, or the answer to one."""
    message = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.RESPONSE if response else stun.Class.REQUEST,
        transaction_id=number.to_bytes(12, "big"),
    )
    if response:
        message.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 4000)
    else:
        message.attributes["PRIORITY"] = 1_845_501_695
        message.attributes["ICE-CONTROLLING"] = 7
        message.attributes["USE-CANDIDATE"] = None
    if username is not None:
        message.attributes["USERNAME"] = username
    message.add_message_integrity(PASSWORD.encode())
    message.add_fingerprint()
    return bytes(message)


def allocate() -> bytes:
    """Return a TURN client's first message (RFC 8656, section 7)."""
    message = stun.Message(
        message_method=stun.Method.ALLOCATE, message_class=stun.Class.REQUEST, transaction_id=bytes(12)
    )
    message.attributes["REQUESTED-TRANSPORT"] = 0x11000000
    return bytes(message)


def rtp(seq: int = 1, *, level: int | None = None, two_byte: bool = False, csrcs: int = 0, pad: int = 0) -> bytes:
    """Return an RTP packet with what may be in one."""
    first = 0x80 | (0x10 if level is not None else 0) | csrcs | (0x20 if pad else 0)
    data = struct.pack("!BBHII", first, 111, seq, seq * 960, 7) + bytes(range(4 * csrcs))
    if level is not None:
        data += b"\x10\0\0\1\1\1" + bytes((level, 0)) if two_byte else b"\xbe\xde\0\1\x10" + bytes((level, 0, 0))
    data += b"\xfc" + bytes(range(40))
    return data + bytes(pad - 1) + bytes((pad,)) if pad else data


def dtls() -> bytes:
    """Return the head of a DTLS 1.2 ClientHello record."""
    return b"\x16\xfe\xfd" + bytes(8) + b"\x00\x30\x01\x00\x00\x24" + bytes(42)
