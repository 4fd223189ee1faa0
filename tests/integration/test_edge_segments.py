"""Datagrams of one size to one address leave in few messages, and arrive as if each had left by itself."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from relay.edge import EdgeConfig, Limits, wire
from relay.edge.capture import Capture
from relay.edge.flows import FlowTable
from relay.edge.io import DSCP_EF, UdpSocket
from relay.edge.native import NativeForwarder
from relay.edge.portable import PortableForwarder
from relay.edge.router import Router
from relay.encap import down_header, read_up
from tests.integration.edge_tools import HEADER_KEY, KEY, SESSION, WAYS, Peer, Transceiver, rtp, wait_for

CLIENTS: Final = 12
PACKETS: Final = 20  # of all clients these fit into the buffers of any Linux
BUFFER_BYTES: Final = 4 << 20
SO_NO_CHECK: Final = 11  # asm-generic/socket.h
NOBODY: Final = "127.255.255.255"  # the loopback's broadcast address: nobody may send there (EACCES)
OVER_SEGMENTS: Final = 1300  # larger than what is put with others


class Way:
    """The sockets of an edge, with flows from all clients open: odd ones to one transceiver, even ones to the other."""

    def __init__(self, ending: ExitStack, host: str, *, compiled: bool) -> None:
        self.transceivers = [Transceiver(host), Transceiver(host)]
        self.clients = [Peer(host) for _ in range(CLIENTS)]
        for peer in (*self.transceivers, *self.clients):
            ending.callback(peer.socket.close)
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.public, self.internal = (UdpSocket((host, 0), receive_buffer_bytes=BUFFER_BYTES) for _ in range(2))
        config = EdgeConfig(
            name="edge-1",
            region="test",
            bind=(host, 0),
            internal_bind=(host, 0),
            transceivers={"alph": self.transceivers[0].address, "beta": self.transceivers[1].address},
            keys={1: KEY},
            host_id="host-1",
            limits=Limits(late_s=3600),
        )
        self.flows = flows = FlowTable(config.limits, HEADER_KEY)
        capture = Capture(config.limits.rows)
        router = Router(config, flows, capture)
        self.forwarder: NativeForwarder | PortableForwarder
        if compiled:
            library = wire.load()
            self.forwarder = NativeForwarder(library, self.public, self.internal, config, flows, capture, router)
        else:
            self.forwarder = PortableForwarder(self.public, self.internal, router, config.limits)
        for one in (self.public, self.internal, self.forwarder):
            ending.callback(one.close)
        for number, client in enumerate(self.clients):
            flows.open(client.address, None, self.transceivers[number % 2].address, 0)
        self.sent = self.answered = 0

    def send(self, client: Peer, data: bytes) -> None:
        client.send(data, self.public.address)
        self.sent += 1

    def refused(self) -> tuple[int, int]:
        """Datagrams up and down that the kernel did not take."""
        counted = self.forwarder.dropped()
        return (
            counted["internal_send_error"] + self.internal.dropped["send_error"],
            counted["public_send_error"] + self.public.dropped["send_error"],
        )

    def forward(self) -> None:
        def all_of_it() -> bool:
            self.forwarder.turn(0.01)
            return self.forwarder.forwarded()[0] + self.refused()[0] == self.sent

        wait_for(all_of_it, "all is forwarded")

    def answer(self, number: int, data: bytes) -> None:
        """Send a client something from its transceiver."""
        header = down_header(*self.clients[number].address, SESSION, HEADER_KEY)
        self.transceivers[number % 2].send(header + data, self.internal.address)
        self.answered += 1

    def forward_down(self) -> None:
        def all_of_it() -> bool:
            self.forwarder.turn(0.01)
            return self.forwarder.forwarded()[1] + self.refused()[1] == self.answered

        wait_for(all_of_it, "all is forwarded")


@pytest.fixture(name="ending")
def _ending() -> Iterator[ExitStack]:
    with ExitStack() as ending:
        yield ending


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_flow_arrives_whole_and_in_order_whatever_the_sizes(way: str, host: str, ending: ExitStack) -> None:
    rng = random.Random(11)
    made = Way(ending, host, compiled=way == "compiled")
    expected: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for seq in range(PACKETS):
        for number in rng.sample(range(CLIENTS), CLIENTS):
            data = rtp(seq, ssrc=number, size=rng.choice([40, 60, 60, 60, 90, 200, OVER_SEGMENTS]))
            made.send(made.clients[number], data)
            expected[number % 2, made.clients[number].address[1]].append(data)
    made.forward()
    arrived: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for place, transceiver in enumerate(made.transceivers):
        for data in transceiver.pending():
            header = read_up(data, [HEADER_KEY])
            arrived[place, header.client.port].append(data[header.offset :])
    assert arrived == expected
    assert not made.forwarder.refusals()
    assert not made.forwarder.dropped()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_client_is_answered_in_order_whatever_the_sizes(way: str, host: str, ending: ExitStack) -> None:
    rng = random.Random(12)
    made = Way(ending, host, compiled=way == "compiled")
    expected: dict[int, list[bytes]] = defaultdict(list)
    for seq in range(PACKETS):
        for number in rng.sample(range(CLIENTS), CLIENTS):
            for part in range(rng.choice([1, 1, 4])):  # now and then a burst
                data = rtp(4 * seq + part, ssrc=number, size=rng.choice([40, 60, 60, 60, 90, 200, OVER_SEGMENTS]))
                made.answer(number, data)
                expected[number].append(data)
        made.forward_down()  # the first of them by the router, which has not seen these headers
    assert {number: client.pending() for number, client in enumerate(made.clients)} == expected
    assert not made.forwarder.refusals()
    assert not made.forwarder.dropped()


@pytest.mark.parametrize("way", WAYS)
def test_of_one_size_few_messages_carry_all_and_each_keeps_its_mark(way: str, ending: ExitStack) -> None:
    made = Way(ending, "127.0.0.1", compiled=way == "compiled")
    transceiver = made.transceivers[0].socket
    transceiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    for seq in range(PACKETS):
        for client in made.clients[::2]:
            made.send(client, rtp(seq))
    made.forward()
    for _ in range(made.sent):
        _, control, _, source = transceiver.recvmsg(2048, 64)
        assert source == made.internal.address
        assert [value[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)] == [
            DSCP_EF << 2
        ]
    messages = made.forwarder.messages_up()
    assert messages < made.sent / 4 if way == "compiled" else messages == made.sent


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whom", ["transceivers", "clients"])
def test_what_the_kernel_does_not_cut_up_leaves_singly_and_so_does_all_after_it(
    whom: str, way: str, ending: ExitStack
) -> None:
    """As on a path that cannot: a socket that asks for no checksums is refused for that reason (udp_send_skb)."""
    made = Way(ending, "127.0.0.1", compiled=way == "compiled")
    for number in range(CLIENTS):
        made.answer(number, rtp(0, ssrc=number))
    made.forward_down()
    for client in made.clients:
        client.pending()
    refusing = made.internal if whom == "transceivers" else made.public
    with socket.socket(fileno=os.dup(refusing.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    for _ in range(2):
        before = made.forwarder.messages_up()
        sent = [rtp(seq, ssrc=number) for number in range(0, CLIENTS, 2) for seq in range(PACKETS)]
        for at, data in enumerate(sent):
            number = at // PACKETS * 2
            made.send(made.clients[number], data)
            made.answer(number, data)
        made.forward()
        made.forward_down()
        arrived = [data[read_up(data, [HEADER_KEY]).offset :] for data in made.transceivers[0].pending()]
        assert sorted(arrived) == sorted(sent)
        assert [data for client in made.clients[::2] for data in client.pending()] == sent
        assert list(made.forwarder.refusals()) == ([whom] if way == "compiled" else [])
        assert not made.forwarder.dropped()
    singly = way == "portable" or whom == "transceivers"
    assert (made.forwarder.messages_up() - before == len(sent)) == singly


@pytest.mark.parametrize("way", WAYS)
def test_an_error_that_has_nothing_to_do_with_segments_does_not_end_them(way: str, ending: ExitStack) -> None:
    """As when the route to a transceiver is gone for a moment: here nobody may send to that address (EACCES)."""
    made = Way(ending, "127.0.0.1", compiled=way == "compiled")
    lost = [Peer("127.0.0.1") for _ in range(4)]
    for client in lost:
        ending.callback(client.socket.close)
        made.flows.open(client.address, None, (NOBODY, 9), 0)
        for seq in range(PACKETS):
            made.send(client, rtp(seq))
    made.forward()
    assert not made.forwarder.refusals()
    assert made.refused() == (len(lost) * PACKETS, 0)
    before = made.forwarder.messages_up()
    for seq in range(PACKETS):
        for client in made.clients[::2]:
            made.send(client, rtp(seq))
    made.forward()
    assert len(list(made.transceivers[0].pending())) == PACKETS * CLIENTS // 2
    if way == "compiled":
        assert made.forwarder.messages_up() - before < PACKETS * CLIENTS / 2 / 4


@pytest.mark.parametrize("way", WAYS)
def test_only_what_the_kernel_took_counts_as_forwarded(way: str, ending: ExitStack) -> None:
    made = Way(ending, "127.0.0.1", compiled=way == "compiled")
    lost = Peer("127.0.0.1")
    ending.callback(lost.socket.close)
    made.flows.open(lost.address, None, (NOBODY, 9), 0)
    for seq in range(PACKETS):
        for client in (made.clients[0], lost, made.clients[1]):  # refusals between what is taken
            made.send(client, rtp(seq, ssrc=client.address[1]))
    made.forward()
    assert made.forwarder.forwarded() == (2 * PACKETS, 0)
    assert made.refused() == (PACKETS, 0)
    assert 0 < made.forwarder.messages_up() <= 2 * PACKETS
    assert sum(len(one.pending()) for one in made.transceivers) == 2 * PACKETS
    for seq in range(PACKETS):
        for host, port in ((NOBODY, 9), made.clients[0].address):
            made.transceivers[0].send(down_header(host, port, SESSION, HEADER_KEY) + rtp(seq), made.internal.address)

    def all_down() -> bool:
        made.forwarder.turn(0.01)
        return made.forwarder.forwarded()[1] + made.refused()[1] == 2 * PACKETS

    wait_for(all_down, "all is forwarded")
    assert made.forwarder.forwarded() == (2 * PACKETS, PACKETS)
    assert made.refused() == (PACKETS, PACKETS)
    assert made.clients[0].pending() == [rtp(seq) for seq in range(PACKETS)]


class _NoRoom(socket.socket):
    """Refuses as a device whose queue is full; no test can fill the loopback's."""

    def sendto(self, *_: object) -> int:
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_a_full_device_is_told_from_other_refusals() -> None:
    with _NoRoom(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        udp = UdpSocket(("127.0.0.1", 0), receive_buffer_bytes=BUFFER_BYTES, bound=bound)
        assert udp.send_batch([(b"voice", ("127.0.0.1", 9))] * 3) == 0
        assert (udp.dropped["send_full"], udp.dropped["send_error"]) == (3, 0)
