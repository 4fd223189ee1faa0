"""Datagrams at a transceiver's socket: nothing raises, and no session acts on, or is bound by, what it did not sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aioice import stun as aioice_stun

from relay.encap import up_header
from relay.transceiver.counters import Counters
from relay.transceiver.demux import Demux
from tests.fuzz import messages_of
from tests.fuzz.records import pack, unpack

MODULES: Final[tuple[str, ...]] = (
    "relay.transceiver.demux",
    "relay.transceiver.stun",
    "relay.transceiver.ice",
    "relay.stun",
    "relay.encap",
    "aioice.stun",
)

_SOURCES: Final = (messages_of.EDGE.internal, ("203.0.113.9", 9))
_ALICE: Final = ("192.0.2.1", 4000)
_MALLORY: Final = ("192.0.2.66", 6666)


class _Session:
    """A session's real ICE agent; what reaches it is counted."""

    def __init__(self) -> None:
        self.edge = messages_of.EDGE
        self.heard = 0
        self.connection = messages_of.agent()

    @property
    def remote(self) -> tuple[str, int] | None:
        return self.connection.remote

    def authentic(self, message: aioice_stun.Message) -> bool:
        return self.connection.authentic(message)

    def asked(self, message: aioice_stun.Message, client: tuple[str, int]) -> bool:
        return self.connection.asked(message, client)

    def stun_received(self, message: aioice_stun.Message, client: tuple[str, int], arrival_ns: int) -> None:
        self.heard += 1
        if message.message_class is not aioice_stun.Class.REQUEST:  # a request starts tasks, which need a loop
            self.connection.stun_received(message, client, arrival_ns)

    def dtls_received(self, data: bytes) -> None:
        self.heard += bool(data)

    def srtp_received(self, data: bytes, arrival_ns: int) -> None:
        self.heard += bool(data) and bool(arrival_ns)


def seeds() -> Mapping[str, bytes]:
    """A client's way in, and what others send."""
    alice, mallory = up_header(*_ALICE, messages_of.HEADER_KEY), up_header(*_MALLORY, messages_of.HEADER_KEY)
    check = messages_of.check(f"{messages_of.UFRAGS[0]}:theirs")
    forged = check[:-40] + bytes(12) + check[-28:]
    return {
        "call": pack([(0, alice + check), (0, alice + messages_of.dtls()), (0, alice + messages_of.rtp())]),
        "answer": pack([(0, alice + check), (0, alice + messages_of.check(response=True))]),
        "forged": pack([(0, mallory + forged), (0, mallory + messages_of.rtp()), (0, mallory + messages_of.dtls())]),
        "stranger": pack([(1, alice + check)]),
        "ipv6": pack([(0, up_header("2001:db8::1", 7, messages_of.HEADER_KEY) + check)]),
        "cut": pack([(0, alice), (0, alice[:5]), (0, b"")]),
    }


def run(data: bytes) -> None:
    """Send each datagram; only Alice's own check, byte for byte what is signed, may bind."""
    counters = Counters()
    demux = Demux(counters, [messages_of.HEADER_KEY])
    demux.allow(messages_of.EDGE)
    session = _Session()
    demux.add(messages_of.UFRAGS[0], session)
    sent = 0
    for kind, datagram in unpack(data):
        sent += 1
        before = session.heard
        demux.receive(datagram, _SOURCES[kind & 1], 1)
        if kind & 1:
            assert session.heard == before, "a stranger was listened to"
    assert session.heard + sum(counters.drops.values()) >= sent, "a datagram is unaccounted for"
