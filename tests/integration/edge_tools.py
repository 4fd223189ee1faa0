"""An edge on real loopback sockets, with clients and transceivers to talk to it."""

from __future__ import annotations

import dataclasses
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from aioice import stun

from eventlog.cloudevents import open_chunk
from eventlog.emitter import Emitter
from eventlog.port import TopicPartition
from eventlog.schema import FactType
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig, Limits
from relay.edge.wire.build import build
from relay.encap import Client, derive, down_header, read_up
from relay.ufrag import mint

KEY = secrets.token_bytes(32)
LOOPBACK = "127.0.0.1"
HEADER_KEY = derive(KEY)
PATIENCE_S = 5.0
SESSION = bytes(range(16))
LEVEL_ID = 2
Address = tuple[str, int]


# Where there is no C compiler the portable way is the only one, and the tests are for that.
WAYS = ["portable"] if build() is None else ["compiled", "portable"]


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

    header_key = HEADER_KEY

    def receive_up(self) -> tuple[Client, bytes]:
        data = self.receive()
        header = read_up(data, [HEADER_KEY])
        return header.client, data[header.offset :]

    def send_down(self, edge: Edge, client: Address, payload: bytes) -> None:
        self.send(down_header(*client, SESSION, self.header_key, LEVEL_ID) + payload, edge.internal_address)


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

    def start(self, limits: Limits | None = None, drain_s: float = 0.0, **settings: Any) -> Edge:
        self.emitter = Emitter(
            lambda: SqliteEventLog(self.log_path), role="edge", region="test", host_id="host-1", flush_s=0.05
        )
        self.edge = Edge(self.config(limits, **settings), self.emitter)
        self.emitter.start()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.edge.run, args=(self.stop, drain_s), name="edge", daemon=True)
        self.thread.start()
        return self.edge

    def finish(self) -> None:
        """Stop the edge as SIGTERM does; everything captured is in the log afterwards."""
        if self.thread is not None:
            self.stop.set()
            asked = time.monotonic()
            self.thread.join(3 * PATIENCE_S)
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


def new_ufrag(code: str = "alph", key: bytes = KEY, key_id: int = 1) -> str:
    return mint(code, key, key_id, secrets.token_bytes(5))


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


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until something another thread does has happened."""
    ends = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends, f"{what} within {patience_s} s"
        time.sleep(0.002)


def dropped(edge: Edge) -> int:
    return sum(edge.counters().dropped.values())


def stream(table: pa.Table, tap: str, ssrc: int = 7) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if (row["tap"], row["stream"]) == (tap, ssrc)]
