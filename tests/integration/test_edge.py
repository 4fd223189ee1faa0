"""The edge on real loopback sockets, its facts read back from a real log."""

from __future__ import annotations

import dataclasses
import random
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aioice import stun

from eventlog.cloudevents import open_chunk
from eventlog.emitter import Emitter
from eventlog.port import TopicPartition
from eventlog.schema import LEG, PACKET, FactType
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig, Limits
from relay.edge.wire.build import build
from relay.encap import Client, derive, down_header, read_up
from relay.ufrag import mint
from voice.sequence import StreamStats

KEY = secrets.token_bytes(32)
LOOPBACK = "127.0.0.1"
HEADER_KEY = derive(KEY)
PATIENCE_S = 5.0
SESSION = bytes(range(16))
LEVEL_ID = 2
Address = tuple[str, int]


class Peer:
    """A UDP socket that stands for a client or a transceiver."""

    def __init__(self, host: str = LOOPBACK) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(PATIENCE_S)
        self.address: Address = self.socket.getsockname()[:2]

    def send(self, data: bytes, to: Address) -> None:
        self.socket.sendto(data, to)

    def receive(self) -> bytes:
        return self.socket.recv(4096)

    def pending(self) -> list[bytes]:
        """What has arrived by now, without waiting."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096))
        except BlockingIOError:
            self.socket.settimeout(PATIENCE_S)
        return found


class Transceiver(Peer):
    """Answers nothing by itself; speaks the edge's encapsulation."""

    def receive_up(self) -> tuple[Client, bytes]:
        data = self.receive()
        header = read_up(data, [HEADER_KEY])
        return header.client, data[header.offset :]

    def send_down(self, edge: Edge, client: Address, payload: bytes) -> None:
        self.send(down_header(*client, SESSION, HEADER_KEY, LEVEL_ID) + payload, edge.internal_address)


class World:
    """An edge in a thread with two allow-listed transceivers, a log, and the means to stop and read."""

    def __init__(self, path: Path, *, compiled: bool) -> None:
        self.compiled = compiled
        self.log_path = path / "log.sqlite"
        self.alpha, self.beta, self.client = Transceiver(), Transceiver(), Peer()
        self.peers: list[Peer] = [self.alpha, self.beta, self.client]
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def config(self, limits: Limits | None = None, **settings: Any) -> EdgeConfig:
        plain = EdgeConfig(
            name="edge-1",
            region="test",
            bind=(LOOPBACK, 0),
            internal_bind=(LOOPBACK, 0),
            transceivers={"alph": self.alpha.address, "beta": self.beta.address},
            keys={1: KEY},
            host_id="host-1",
            compiled=self.compiled,
            probes=False,  # transceivers here are plain sockets
            limits=limits or Limits(),
        )
        return dataclasses.replace(plain, **settings)

    def start(self, limits: Limits | None = None, **settings: Any) -> Edge:
        self.emitter = Emitter(
            lambda: SqliteEventLog(self.log_path), role="edge", region="test", host_id="host-1", flush_s=0.05
        )
        self.edge = Edge(self.config(limits, **settings), self.emitter)
        self.emitter.start()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.edge.run, args=(self.stop,), name="edge", daemon=True)
        self.thread.start()
        return self.edge

    def finish(self) -> None:
        """Stop the edge as SIGTERM does; everything captured is in the log afterwards."""
        if self.thread is not None:
            self.stop.set()
            asked = time.monotonic()
            self.thread.join(PATIENCE_S)
            assert not self.thread.is_alive()
            self.stopped_within_s = time.monotonic() - asked
            self.thread = None
            self.accounts = self.emitter.close()

    def close(self) -> None:
        self.finish()
        for peer in self.peers:
            peer.socket.close()

    def another_client(self) -> Peer:
        self.peers.append(peer := Peer())
        return peer

    async def facts(self, fact: FactType) -> pa.Table:
        self.finish()
        log = SqliteEventLog(self.log_path)
        where = TopicPartition(fact.topic, 0)
        batches = []
        offset, end = await log.bounds(where)
        while offset < end:
            messages = await log.read(where, offset, max_bytes=1 << 24)
            batches += [open_chunk(message)[2] for message in messages]
            offset = messages[-1].offset + 1
        await log.aclose()
        return pa.Table.from_batches(batches, schema=fact.schema).sort_by("observed_ns")


# Where there is no C compiler the portable way is the only one, and the tests are for that.
WAYS = ["portable"] if build() is None else ["compiled", "portable"]


@pytest.fixture(params=WAYS)
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, compiled=request.param == "compiled")
    yield made
    made.close()


def check(ufrag: str | None = None, answer_to: bytes | None = None) -> bytes:
    message = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.REQUEST if answer_to is None else stun.Class.RESPONSE,
        transaction_id=secrets.token_bytes(12) if answer_to is None else answer_to[8:20],
    )
    if ufrag is not None:
        message.attributes["USERNAME"] = f"{ufrag}:theirs"
    message.add_message_integrity(b"password")
    return bytes(message)


def new_ufrag(code: str = "alph", key: bytes = KEY) -> str:
    return mint(code, key, 1, secrets.token_bytes(5))


def rtp(seq: int, ssrc: int = 7, level: int | None = None, size: int = 40) -> bytes:
    header = struct.pack("!BBHII", 0x80 if level is None else 0x90, 111, seq & 0xFFFF, seq * 960 % 2**32, ssrc)
    if level is not None:
        header += b"\xbe\xde\0\1" + bytes((LEVEL_ID << 4, level, 0, 0))
    return header.ljust(size, b"x")


def connect(world: World, edge: Edge, ufrag: str, client: Peer | None = None) -> None:
    """A client's first check and its answer: afterwards the edge knows flow and session."""
    client = client or world.client
    request = check(ufrag)
    client.send(request, edge.address)
    assert world.alpha.receive_up() == (Client(*client.address), request)
    answer = check(answer_to=request)
    world.alpha.send_down(edge, client.address, answer)
    assert client.receive() == answer


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until something another thread does has happened."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, f"{what} within {PATIENCE_S} s"
        time.sleep(0.002)


def dropped(edge: Edge) -> int:
    return sum(edge.counters().dropped.values())


def stream(table: pa.Table, tap: str, ssrc: int = 7) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if (row["tap"], row["stream"]) == (tap, ssrc)]


async def test_a_call_passes_both_ways_and_every_packet_is_a_fact(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    for n in range(20):
        world.client.send(rtp(n, level=0x80 | n), edge.address)
        assert world.alpha.receive_up() == (Client(*world.client.address), rtp(n, level=0x80 | n))
        world.alpha.send_down(edge, world.client.address, rtp(n + 500, ssrc=8))
        assert world.client.receive() == rtp(n + 500, ssrc=8)
    table = await world.facts(PACKET)
    up, down = stream(table, "edge_up"), stream(table, "edge_down", ssrc=8)
    assert [row["ext_seq"] for row in up] == list(range(20))
    assert [row["ext_seq"] for row in down] == list(range(500, 520))
    assert [row["audio_level_dbov"] for row in up] == [-n for n in range(20)]
    assert all(row["voice_activity"] for row in up)
    assert all(row["audio_level_dbov"] is None and row["voice_activity"] is None for row in down)
    assert [row["transit_delta_us"] is None for row in up] == [True] + [False] * 19
    for row in up + down:
        assert (row["session_id"], row["region"], row["host_id"]) == (SESSION, "test", "host-1")
        assert (row["payload_type"], row["marker"], row["size_bytes"], row["dscp"]) == (111, False, 40, 0)
        assert (row["newly_lost"], row["reordered"], row["duplicate"]) == (0, False, False)
    assert edge.counters().captured == 40
    assert world.accounts["packet"].emitted == 40
    assert world.stopped_within_s < PATIENCE_S


async def test_gaps_duplicates_and_reordering_are_measured_as_they_were(world: World) -> None:
    """Also across the wrap of the sequence number and over several flushes."""
    rng = random.Random(7)
    sent = list(range(65_400, 65_800))
    order = [seq for seq in sent if seq == 65_400 or rng.random() > 0.1]
    for _ in range(30):
        n = rng.randrange(1, len(order) - 1)
        order[n], order[n + 1] = order[n + 1], order[n]
    for _ in range(20):
        n = rng.randrange(len(order))
        order.insert(n + 1, order[n])
    edge = world.start(Limits(flush_s=0.01))
    connect(world, edge, new_ufrag())
    for seq in order:
        world.client.send(rtp(seq), edge.address)
        world.alpha.receive_up()
    rows = stream(await world.facts(PACKET), "edge_up")
    reference = StreamStats()
    for row, seq in zip(rows, order, strict=True):
        at_ns = row["observed_ns"].value
        arrival = reference.receive(seq & 0xFFFF, seq * 960 % 2**32, at_ns)
        assert {name: row[name] for name in ("ext_seq", "newly_lost", "reordered", "duplicate")} == {
            "ext_seq": seq,
            "newly_lost": arrival.newly_lost,
            "reordered": arrival.reordered,
            "duplicate": arrival.duplicate,
        }
        # Made before the times were cut to microseconds.
        assert (row["transit_delta_us"] is None) == (arrival.transit_delta_us is None)
        assert abs((row["transit_delta_us"] or 0) - (arrival.transit_delta_us or 0)) <= 1
    expected = max(order) - min(order) + 1
    assert sum(row["newly_lost"] for row in rows) == expected - len(set(order))
    assert sum(row["duplicate"] for row in rows) == len(order) - len(set(order))


async def test_receive_times_are_the_kernels_and_dscp_is_what_came(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    world.client.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2)
    before_ns = time.time_ns()
    world.client.send(rtp(1), edge.address)
    after_ns = time.time_ns()
    world.alpha.receive_up()
    (row,) = stream(await world.facts(PACKET), "edge_up")
    assert row["dscp"] == 46
    # The kernel stamps while sendto runs; both clocks are the system's.
    assert before_ns - 1_000_000 <= row["observed_ns"].value <= after_ns + 1_000_000


def test_voice_leaves_marked_expedited(world: World) -> None:
    edge = world.start()
    for peer in (world.alpha, world.client):
        peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    connect(world, edge, new_ufrag())
    world.client.send(rtp(1), edge.address)
    _, control, _, _ = world.alpha.socket.recvmsg(2048, 64)
    assert control[0][2] == b"\xb8"
    world.alpha.send_down(edge, world.client.address, rtp(1))
    _, control, _, _ = world.client.socket.recvmsg(2048, 64)
    assert control[0][2] == b"\xb8"


def test_unverified_traffic_is_neither_forwarded_nor_answered(world: World) -> None:
    edge = world.start()
    stranger = world.another_client()
    attempts = [
        b"",
        rtp(1),
        b"\x80\xc8" + bytes(26),
        b"\x16\xfe\xfd" + bytes(60),
        b"\x40\x00\x00\x04abcd",
        check(),
        check("abcd"),
        check(new_ufrag(key=bytes(32))),
        check(new_ufrag("gamm")),
        check(answer_to=check()),
        down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(1),
        bytes(1400),
    ]
    for data in attempts:
        stranger.send(data, edge.address)
    wait_for(lambda: dropped(edge) == len(attempts), "all counted as dropped")
    counters = edge.counters()
    assert (counters.flows, counters.forwarded_up, counters.forwarded_down) == (0, 0, 0)
    assert counters.dropped["ufrag_bad_mac"] == 1
    # A verified request sent last comes first: nothing went out before it.
    connect(world, edge, new_ufrag())
    assert [peer.pending() for peer in (stranger, world.alpha, world.beta)] == [[], [], []]


def test_only_allow_listed_transceivers_may_send_down(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    outsider = world.another_client()
    outsider.send(down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(1), edge.internal_address)
    wait_for(lambda: edge.counters().dropped.get("unknown_peer") == 1, "the outsider counted")
    world.beta.send_down(edge, world.client.address, rtp(2))
    wait_for(lambda: edge.counters().dropped.get("wrong_transceiver") == 1, "the wrong transceiver counted")
    world.alpha.send_down(edge, world.client.address, rtp(3))
    assert world.client.receive() == rtp(3)


def test_flow_caps_hold(world: World) -> None:
    edge = world.start(Limits(flows_per_source=2))
    connect(world, edge, new_ufrag())
    connect(world, edge, new_ufrag(), world.another_client())
    world.another_client().send(check(new_ufrag()), edge.address)
    wait_for(lambda: edge.counters().dropped.get("source_cap") == 1, "the third flow refused")
    assert edge.counters().flows == 2


def test_flows_that_nobody_answers_or_uses_end(world: World) -> None:
    edge = world.start(Limits(unanswered_s=0.05, idle_s=0.3))
    world.client.send(check(new_ufrag()), edge.address)
    world.alpha.receive_up()
    connect(world, edge, new_ufrag(), world.another_client())
    wait_for(lambda: edge.counters().flows == 0, "both flows expired")
    assert edge.counters().flows_closed == {"unanswered": 1, "idle": 1, "evicted": 0}


async def test_a_client_that_changes_its_address_stays_in_its_session(world: World) -> None:
    edge = world.start()
    ufrag = new_ufrag()
    connect(world, edge, ufrag)
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    moved = world.another_client()
    request = check(ufrag)
    moved.send(request, edge.address)
    assert world.alpha.receive_up() == (Client(*moved.address), request)
    moved.send(rtp(3), edge.address)
    assert world.alpha.receive_up() == (Client(*moved.address), rtp(3))
    world.alpha.send_down(edge, moved.address, rtp(9, ssrc=8))
    assert moved.receive() == rtp(9, ssrc=8)
    rows = stream(await world.facts(PACKET), "edge_up")
    assert [(row["ext_seq"], row["newly_lost"], row["session_id"]) for row in rows] == [
        (1, 0, SESSION),
        (3, 1, SESSION),
    ]


async def test_a_restarted_edge_goes_on_with_the_call(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    world.finish()
    again = world.start(bind=edge.address, internal_bind=edge.internal_address)
    assert again.address == edge.address
    world.alpha.send_down(again, world.client.address, rtp(5, ssrc=8))
    assert world.client.receive() == rtp(5, ssrc=8)
    world.client.send(rtp(2), again.address)
    assert world.alpha.receive_up() == (Client(*world.client.address), rtp(2))
    table = await world.facts(PACKET)
    assert [row["ext_seq"] for row in stream(table, "edge_up")] == [1, 2]
    assert [row["ext_seq"] for row in stream(table, "edge_down", ssrc=8)] == [5]


async def test_packets_before_the_session_is_known_wait_for_it(world: World) -> None:
    edge = world.start(Limits(flush_s=0.01))
    world.client.send(check(new_ufrag()), edge.address)
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    world.alpha.receive_up()
    world.alpha.send_down(edge, world.client.address, rtp(1, ssrc=8))
    world.client.receive()
    assert [row["session_id"] for row in stream(await world.facts(PACKET), "edge_up")] == [SESSION]
    assert edge.counters().shed == {}


async def test_packets_of_no_known_session_are_shed_and_counted(world: World) -> None:
    edge = world.start(Limits(flush_s=0.01, waiting_s=0.02))
    world.client.send(check(new_ufrag()), edge.address)
    world.client.send(rtp(1), edge.address)
    wait_for(lambda: edge.counters().shed == {"packet": {"no_session": 1}}, "the row shed")
    assert (await world.facts(PACKET)).num_rows == 0


async def test_voice_passes_when_telemetry_is_full(world: World) -> None:
    edge = world.start(Limits(rows=8, flush_s=60))
    connect(world, edge, new_ufrag())
    for n in range(50):
        world.client.send(rtp(n), edge.address)
        assert world.alpha.receive_up()[1] == rtp(n)
    counters = edge.counters()
    assert counters.captured == 50
    assert counters.shed == {"packet": {"full": 42}}
    rows = stream(await world.facts(PACKET), "edge_up")
    assert len(rows) == 8


async def test_whoever_has_a_flow_cannot_make_streams_without_end(world: World) -> None:
    edge = world.start(Limits(streams_per_session=4))
    connect(world, edge, new_ufrag())
    for ssrc in range(20):
        world.client.send(rtp(1, ssrc=ssrc), edge.address)
        world.alpha.receive_up()
    table = await world.facts(PACKET)
    assert len(set(table["stream"].to_pylist())) == 4
    assert edge.counters().shed == {"packet": {"streams": 16}}
    assert world.accounts["packet"].shed == {"streams": 16}


async def test_stun_gives_the_round_trip_of_both_legs(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    request = check("client")
    world.alpha.send_down(edge, world.client.address, request)
    assert world.client.receive() == request
    world.client.send(check(answer_to=request), edge.address)
    world.alpha.receive_up()
    rows = (await world.facts(LEG)).to_pylist()
    assert [(row["leg"], row["method"], row["session_id"]) for row in rows] == [
        ("edge_transceiver", "stun", SESSION),
        ("client_edge", "stun", SESSION),
    ]
    assert all(row["rtt_us"] < PATIENCE_S * 1e6 for row in rows)


def test_garbage_never_stops_the_loop(world: World) -> None:
    edge = world.start()
    ufrag = new_ufrag()
    connect(world, edge, ufrag)
    stranger = world.another_client()
    rng = random.Random(3)
    seeds: Sequence[bytes] = [
        check(ufrag),
        rtp(1, level=3),
        b"\x80\xc8" + bytes(26),
        down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(2),
        down_header("2001:db8::1", 4, SESSION, HEADER_KEY) + rtp(2),
    ]
    for _ in range(1_500):
        data = bytearray(rng.choice(seeds) if rng.random() < 0.7 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(1, 5)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(len(data) + 1)])
        rng.choice([world.client, stranger]).send(cut, edge.address)
        world.alpha.send(cut, edge.internal_address)
    world.alpha.pending()
    world.client.pending()
    marker = rtp(4_242, ssrc=99)
    world.client.send(marker, edge.address)
    while world.alpha.receive_up()[1] != marker:
        pass
    assert edge.counters().dropped.get("telemetry_error") is None


def test_ipv6_works_alike(world: World) -> None:
    edge = world.start(bind=("::1", 0))
    client = Peer("::1")
    world.peers.append(client)
    connect(world, edge, new_ufrag(), client)
    client.send(rtp(1), edge.address)
    assert world.alpha.receive_up() == (Client("::1", client.address[1]), rtp(1))


def test_a_taken_port_is_named(world: World) -> None:
    edge = world.start()
    with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {edge.address[1]}"):
        Edge(world.config(bind=edge.address), world.emitter)
