"""The impaired network on real sockets: what it says it did against what a receiver got."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from relay.caller.network import ImpairedNetwork, NetworkError
from relay.caller.path import QUEUE_LIMIT
from relay.caller.records import DirectionInjected
from voice.losses import GilbertElliott
from voice.netem import PROFILES, LinkProfile, NetworkProfile
from voice.sequence import StreamStats

LOOPBACK = "127.0.0.1"
MS = 1_000_000


def rtp(seq: int, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, 111, seq % 65536, seq * 960 % 2**32, ssrc) + bytes(60)


class Socket:
    """A UDP socket that keeps what it receives, with the time of it."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((LOOPBACK, 0))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self.received: list[tuple[int, bytes, tuple[str, int]]] = []
        asyncio.get_running_loop().add_reader(self.sock, self._readable)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()
        return host, port

    def _readable(self) -> None:
        data, source = self.sock.recvfrom(4096)
        self.received.append((time.monotonic_ns(), data, source))

    def measured(self, ssrc: int = 7) -> StreamStats:
        stats = StreamStats()
        for at_ns, data, _ in self.received:
            first, _, seq, stamp, source = struct.unpack_from("!BBHII", data)
            if first == 0x80 and source == ssrc:
                stats.receive(seq, stamp, at_ns)
        return stats

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()


class Lab:
    """A client and an edge with a network between them."""

    def __init__(self, profile: NetworkProfile, seed: int = 1) -> None:
        self.client, self.edge = Socket(), Socket()
        self.network = ImpairedNetwork(self.edge.address, profile, seed)

    async def up(self, packets: list[bytes]) -> None:
        """Send from the client, slowly enough for the loop to read each."""
        for packet in packets:
            self.client.sock.sendto(packet, self.network.near)
            await asyncio.sleep(0)

    async def down(self, packets: list[bytes]) -> None:
        for packet in packets:
            self.edge.sock.sendto(packet, self.network.far)
            await asyncio.sleep(0)

    def close(self) -> None:
        self.network.close()
        self.client.close()
        self.edge.close()


@pytest.fixture
async def lab() -> AsyncIterator[Callable[..., Lab]]:
    made: list[Lab] = []

    def make(up: LinkProfile, down: LinkProfile | None = None, seed: int = 1) -> Lab:
        made.append(Lab(NetworkProfile("test", up, down or up, "test"), seed))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - sockets are looked at, not waited for
            await asyncio.sleep(0.002)


def sent(calls: Lab, count: int) -> bool:
    streams = calls.network.report()[0].streams
    return bool(streams) and streams[0].sent == count


def all_arrived(calls: Lab) -> bool:
    return len(calls.edge.received) == calls.network.report()[0].streams[0].delivered


LOSSY = LinkProfile(GilbertElliott.from_loss(0.1, 2.0), 5.0, "gamma", 3.0, reorder=0.02, reorder_ms=8.0, duplicate=0.05)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_loss_both_ways_is_what_the_receivers_measured(lab: Callable[..., Lab], seed: int) -> None:
    calls = lab(LOSSY, seed=seed)
    await calls.up([rtp(65_000, ssrc=1)])  # so that the network knows its client
    await until(lambda: calls.network.report()[0].streams != [])
    # So far apart in time that none is overtaken by more than a receiver counts as reordering (RFC 3550 A.1).
    for start in range(0, 2000, 5):
        await calls.up([rtp(seq) for seq in range(start, start + 5)])
        await calls.down([rtp(60_000 + seq, ssrc=9) for seq in range(start, start + 5)])
        await asyncio.sleep(0.002)

    def all_sent() -> list[int]:
        return [stream.sent for way in calls.network.report() for stream in way.streams if stream.ssrc != 1]

    await until(lambda: all_sent() == [2000, 2000])
    await calls.network.up.drained()
    await calls.network.down.drained()
    up, down = calls.network.report()
    injected_up = next(stream for stream in up.streams if stream.ssrc == 7)
    [injected_down] = down.streams
    await until(lambda: calls.edge.measured().received == injected_up.delivered + injected_up.duplicates)
    await until(lambda: calls.client.measured(9).received == injected_down.delivered + injected_down.duplicates)
    for injected, measured in ((injected_up, calls.edge.measured()), (injected_down, calls.client.measured(9))):
        assert injected.lost_seen == measured.lost > 0
        assert injected.duplicates == measured.duplicates > 0
        assert measured.reordered > 0
        assert injected.sent == injected.delivered + injected.lost_seen + injected.lost_leading + injected.lost_trailing
    assert calls.network.refused == 0


async def test_the_same_seed_loses_the_same_packets(lab: Callable[..., Lab]) -> None:
    lost = []
    for seed in (5, 5, 6):
        calls = lab(LinkProfile(GilbertElliott.from_loss(0.2, 2.0)), seed=seed)
        await calls.up([rtp(seq) for seq in range(300)])
        await until(partial(sent, calls, 300))
        await until(partial(all_arrived, calls))
        lost.append({data for _, data, _ in calls.edge.received})
    assert lost[0] == lost[1] != lost[2]


async def test_every_datagram_is_delayed(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(delay_ms=30.0), LinkProfile(delay_ms=60.0))
    sent_ns = time.monotonic_ns()
    await calls.up([rtp(0)])
    await until(lambda: len(calls.edge.received) == 1)
    assert calls.edge.received[0][0] - sent_ns >= 30 * MS
    assert calls.edge.received[0][2] == calls.network.far
    sent_ns = time.monotonic_ns()
    await calls.down([rtp(0)])
    await until(lambda: len(calls.client.received) == 1)
    assert calls.client.received[0][0] - sent_ns >= 60 * MS
    assert calls.client.received[0][2] == calls.network.near


async def test_order_is_kept_among_datagrams_due_at_one_time(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(delay_ms=10.0, jitter="gamma", jitter_ms=5.0))
    await calls.up([rtp(seq) for seq in range(200)])
    await until(lambda: len(calls.edge.received) == 200)
    assert [data for _, data, _ in calls.edge.received] == [rtp(seq) for seq in range(200)]


async def test_other_protocols_are_impaired_and_counted_apart(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(GilbertElliott(p=0.5, r=0.5)))
    stun, dtls, rtcp = b"\x00\x01" + bytes(18), b"\x16\xfe\xfd" + bytes(20), b"\x80\xc8\x00\x06" + bytes(24)
    await calls.up([packet for _ in range(100) for packet in (stun, dtls, rtcp, b"\xff?")])

    def other() -> dict[str, dict[str, int]]:
        return calls.network.report()[0].other

    await until(lambda: sum(kind["sent"] for kind in other().values()) == 400)
    assert {kind: counts["sent"] for kind, counts in other().items()} == dict.fromkeys(
        ("stun", "dtls", "rtcp", "unknown"), 100
    )
    assert all(20 < counts["dropped"] < 80 for counts in other().values())
    await until(lambda: len(calls.edge.received) == 400 - sum(kind["dropped"] for kind in other().values()))
    assert calls.network.report()[0].streams == []


async def test_what_is_on_its_way_at_the_end_is_lost_and_counted(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(delay_ms=10_000.0))
    await calls.up([*[rtp(seq) for seq in range(10)], b"\x00\x01" + bytes(18)])

    def report() -> DirectionInjected:
        return calls.network.report()[0]

    await until(lambda: len(report().other) == 1)
    calls.network.close()
    calls.network.close()
    [stream] = report().streams
    assert (stream.sent, stream.delivered, stream.lost_seen) == (10, 0, 0)
    assert stream.lost_leading + stream.lost_trailing == 10
    assert report().other == {"stun": {"sent": 1, "dropped": 1}}


async def test_after_the_media_was_stopped_only_other_datagrams_pass(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(delay_ms=20.0))
    await calls.up([rtp(0)])
    await until(lambda: len(calls.edge.received) == 1)
    await calls.up([rtp(1)])
    await until(lambda: calls.network.report()[0].streams[0].sent == 2)
    calls.network.up.stop_media()
    await calls.up([rtp(2), b"\x00\x01" + bytes(18)])
    await until(lambda: len(calls.edge.received) == 2)
    [stream] = calls.network.report()[0].streams
    assert (stream.sent, stream.delivered, stream.lost_trailing) == (3, 1, 2)


async def test_a_full_queue_refuses_and_counts(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile(delay_ms=10_000.0))
    for seq in range(QUEUE_LIMIT + 10):
        calls.network.up.push(rtp(seq))
    report = calls.network.report()[0]
    assert report.overflowed == 10
    assert report.streams[0].sent == QUEUE_LIMIT + 10


async def test_a_stranger_is_not_let_in(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile())
    stranger = Socket()
    await calls.up([rtp(0)])
    await until(lambda: len(calls.edge.received) == 1)
    stranger.sock.sendto(rtp(1), calls.network.near)
    await until(lambda: calls.network.refused == 1)
    assert calls.network.report()[0].streams[0].sent == 1
    stranger.close()


async def test_a_dead_edge_counts_and_does_not_raise(lab: Callable[..., Lab]) -> None:
    calls = lab(LinkProfile())
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind((LOOPBACK, 0))
    network = ImpairedNetwork(gone.getsockname(), PROFILES["perfect"], 1)
    gone.close()
    for seq in range(20):
        calls.client.sock.sendto(rtp(seq), network.near)
        await asyncio.sleep(0.001)
    await until(lambda: network.report()[0].streams[0].sent == 20)
    assert network.refused > 0
    network.close()


@pytest.mark.parametrize(
    "address",
    [("192.0.2.1", 4000), ("8.8.8.8", 53), ("2001:db8::1", 4000), ("0.0.0.0", 4000), ("example.org", 4000), ("", 1)],
)
async def test_only_loopback_is_ever_addressed(address: tuple[str, int]) -> None:
    with pytest.raises(NetworkError):
        ImpairedNetwork(address, PROFILES["perfect"], 1)


@pytest.mark.parametrize("port", [0, -1, 65_536])
async def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(NetworkError):
        ImpairedNetwork((LOOPBACK, port), PROFILES["perfect"], 1)
