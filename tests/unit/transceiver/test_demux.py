from __future__ import annotations

import dataclasses
import struct
from typing import Any

from aioice import Candidate
from aioice import stun as aioice_stun
from aioice.ice import CandidatePair
from hypothesis import given
from hypothesis import strategies as st

from relay.encap import derive, up_header
from relay.transceiver.config import EdgeAddress
from relay.transceiver.counters import Counters
from relay.transceiver.demux import ADDRESSES_PER_SESSION, Demux
from relay.transceiver.ice import SharedConnection
from relay.transceiver.stun import parse

EDGE = EdgeAddress("edge-1", "north", ("198.51.100.1", 1), ("10.0.0.1", 2))
OTHER = EdgeAddress("edge-2", "south", ("198.51.100.2", 1), ("10.0.0.2", 2))
HEADER_KEY = derive(bytes(32))
ALICE = ("192.0.2.1", 1000)
MALLORY = ("192.0.2.66", 6666)
DTLS = bytes((22,)) + bytes(40)
SRTP = bytes((0x80, 111)) + bytes(40)


class Session:
    """A session's ICE agent, real, and lists instead of the rest."""

    def __init__(self, ufrag: str, edge: EdgeAddress = EDGE) -> None:
        self.edge = edge
        self.sent: list[tuple[bytes, Any]] = []
        self.connection = SharedConnection(
            ufrag, edge.advertised, lambda data, to: self.sent.append((data, to)), lambda _ns: None
        )
        self.connection.remote_username = "theirs"
        self.dtls: list[bytes] = []
        self.srtp: list[bytes] = []

    @property
    def remote(self) -> tuple[str, int] | None:
        return self.connection.remote

    def authentic(self, message: aioice_stun.Message) -> bool:
        return self.connection.authentic(message)

    def asked(self, message: aioice_stun.Message, client: tuple[str, int]) -> bool:
        return self.connection.asked(message, client)

    def stun_received(self, message: aioice_stun.Message, client: tuple[str, int], arrival_ns: int) -> None:
        self.connection.stun_received(message, client, arrival_ns)

    def dtls_received(self, data: bytes) -> None:
        self.dtls.append(data)

    def srtp_received(self, data: bytes, arrival_ns: int) -> None:
        del arrival_ns
        self.srtp.append(data)

    def connected_to(self, client: tuple[str, int]) -> None:
        host, port = client
        remote = Candidate("f", 1, "udp", 1, host, port, "host")
        self.connection._nominated[1] = CandidatePair(self.connection._component, remote)

    def answered(self, client: tuple[str, int]) -> bytes:
        """Send a check to an address; return the answer to it, as its holder would give it."""
        request = aioice_stun.Message(
            message_method=aioice_stun.Method.BINDING, message_class=aioice_stun.Class.REQUEST
        )
        self.connection._component.send_stun(request, client)
        answer = aioice_stun.Message(
            message_method=aioice_stun.Method.BINDING,
            message_class=aioice_stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        self.connection.remote_password = "their password"
        answer.add_message_integrity(b"their password")
        return bytes(answer)

    def check(self, *, password: str | None = None, without: str | None = None, remote: str = "theirs") -> bytes:
        message = aioice_stun.Message(
            message_method=aioice_stun.Method.BINDING, message_class=aioice_stun.Class.REQUEST
        )
        message.attributes["USERNAME"] = f"{self.connection.local_username}:{remote}"
        message.attributes["PRIORITY"] = 5
        message.attributes["ICE-CONTROLLING"] = 9
        if without is not None:
            del message.attributes[without]
        message.add_message_integrity((password or self.connection.local_password).encode())
        return bytes(message)


class Bench:
    def __init__(self) -> None:
        self.counters = Counters()
        self.demux = Demux(self.counters, [HEADER_KEY])
        for edge in (EDGE, OTHER):
            self.demux.allow(edge)

    def session(self, ufrag: str, edge: EdgeAddress = EDGE) -> Session:
        session = Session(ufrag, edge)
        self.demux.add(ufrag, session)
        return session

    def receive(self, data: bytes, client: tuple[str, int] = ALICE, edge: EdgeAddress = EDGE) -> None:
        self.demux.receive(up_header(*client, HEADER_KEY) + data, edge.internal, 1)


async def test_media_reaches_a_session_only_from_an_address_that_proved_itself() -> None:
    bench = Bench()
    alice = bench.session("alice")
    for data in (DTLS, SRTP):
        bench.receive(data)
    assert bench.counters.drops == {"unknown_client": 2}
    bench.receive(alice.check())
    for data in (DTLS, SRTP):
        bench.receive(data)
        bench.receive(data, MALLORY)
    assert (alice.dtls, alice.srtp) == ([DTLS], [SRTP])
    assert [to for _, to in alice.sent] == [ALICE]
    assert bench.counters.drops == {"unknown_client": 4}


async def test_what_is_not_authentic_gets_no_answer() -> None:
    bench = Bench()
    alice = bench.session("alice")
    for data in (
        alice.check(password="x" * 24),
        alice.check(without="USERNAME"),
        alice.check(without="PRIORITY"),
        alice.check(remote="someone"),
        Session("nobody").check(),
    ):
        bench.receive(data, MALLORY)
    assert alice.sent == []
    assert sum(bench.counters.drops.values()) == 5
    bench.receive(DTLS, MALLORY)
    assert alice.dtls == []


async def test_each_edge_speaks_for_its_own_sessions_only() -> None:
    bench = Bench()
    alice = bench.session("alice")
    bench.receive(alice.check(), edge=OTHER)
    bench.demux.receive(up_header(*ALICE, HEADER_KEY) + alice.check(), ("10.6.6.6", 2), 1)
    assert alice.sent == []
    assert bench.counters.drops == {"stun_unknown_ufrag": 1, "unknown_edge": 1}
    bench.demux.allow(dataclasses.replace(EDGE, internal=("10.0.0.9", 2)))
    bench.receive(alice.check())
    assert bench.counters.drops["unknown_edge"] == 2


async def test_an_address_that_changes_hands_follows_its_new_owner() -> None:
    bench = Bench()
    alice, bob = bench.session("alice"), bench.session("bobby")
    bench.receive(alice.check())
    bench.receive(bob.check())
    bench.receive(SRTP)
    assert (alice.srtp, bob.srtp) == ([], [SRTP])
    bench.demux.remove("alice", alice)
    bench.receive(SRTP)
    assert len(bob.srtp) == 2


async def test_a_calls_address_goes_over_only_to_whom_answers_a_check_there() -> None:
    """Whoever has a call of their own can sign requests that seem to come from another call's address."""
    bench = Bench()
    alice, bob = bench.session("alice"), bench.session("bobby")
    bench.receive(alice.check())
    alice.connected_to(ALICE)
    bench.receive(bob.check())
    bench.receive(SRTP)
    bench.receive(bob.answered(MALLORY), ALICE)
    bench.receive(SRTP)
    assert (alice.srtp, bob.srtp) == ([SRTP, SRTP], [])
    bench.receive(bob.answered(ALICE))
    bench.receive(SRTP)
    assert (alice.srtp, bob.srtp) == ([SRTP, SRTP], [SRTP])


async def test_a_call_that_ended_leaves_its_address_to_who_asked_for_it() -> None:
    bench = Bench()
    alice, bob, carol = (bench.session(name) for name in ("alice", "bobby", "carol"))
    bench.receive(alice.check())
    alice.connected_to(ALICE)
    bench.receive(carol.check())
    bench.receive(bob.check())
    bench.demux.remove("carol", carol)
    bench.demux.remove("alice", alice)
    bench.receive(SRTP)
    assert (alice.srtp, bob.srtp, carol.srtp) == ([], [SRTP], [])
    bench.demux.remove("bobby", bob)
    bench.receive(SRTP)
    assert bench.counters.drops == {"unknown_client": 1}


async def test_addresses_of_a_session_are_bounded_and_forgotten_with_it() -> None:
    bench = Bench()
    alice = bench.session("alice")
    for port in range(1, 100):
        bench.receive(alice.check(), ("192.0.2.1", port))
    for port in range(1, 100):
        bench.receive(SRTP, ("192.0.2.1", port))
    assert len(alice.srtp) == ADDRESSES_PER_SESSION
    bench.demux.remove("alice", alice)
    bench.receive(SRTP, ("192.0.2.1", 99))
    bench.receive(alice.check())
    assert len(alice.srtp) == ADDRESSES_PER_SESSION
    assert bench.counters.drops["stun_unknown_ufrag"] == 1


@given(st.binary(max_size=120), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, encapsulated: bool) -> None:
    bench = Bench()
    bench.demux.receive((up_header(*ALICE, HEADER_KEY) if encapsulated else b"") + data, EDGE.internal, 1)
    assert sum(bench.counters.drops.values()) == 1


ATTRIBUTES = st.lists(
    st.tuples(
        st.sampled_from([entry[0] for entry in aioice_stun.ATTRIBUTES]) | st.integers(0, 0xFFFF), st.binary(max_size=24)
    ),
    max_size=6,
)


@given(st.integers(0, 0x3FFF), ATTRIBUTES)
def test_well_framed_stun_is_parsed_or_refused(kind: int, attributes: list[tuple[int, bytes]]) -> None:
    body = b"".join(struct.pack("!HH", a, len(v)) + v + bytes(-len(v) % 4) for a, v in attributes)
    message = parse(struct.pack("!HHI", kind, len(body), 0x2112A442) + bytes(12) + body)
    assert message is None or message.attributes is not None
