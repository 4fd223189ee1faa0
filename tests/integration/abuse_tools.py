"""What the abuse tests share: an edge in a thread, a call that goes on through it, and sources to attack from."""

from __future__ import annotations

import dataclasses
import functools
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aioice import stun

from eventlog.emitter import Emitter
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig, Limits
from relay.encap import derive, down_header, read_up
from tests.integration import edge_tools
from tests.integration.edge_tools import KEY, new_ufrag

HEADER_KEY = derive(KEY)
LOOPBACK = "127.0.0.1"
PATIENCE_S = 20.0
wait_for = functools.partial(edge_tools.wait_for, patience_s=PATIENCE_S)
SESSION = bytes(range(16))
Address = tuple[str, int]

BURST = 32
"""Datagrams sent before the edge is waited for: a kernel's smallest receive buffer takes them beside a call's own."""


class Source:
    """A UDP socket at a loopback address of its own, and what went out of it and came in."""

    def __init__(self, host: str = LOOPBACK) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()
        self.bytes_out = 0

    def send(self, data: bytes, to: Address) -> None:
        self.socket.sendto(data, to)
        self.bytes_out += len(data)

    def heard(self) -> list[bytes]:
        """What has arrived by now."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096))
        except BlockingIOError:
            return found


class Call(threading.Thread):
    """An ongoing call: voice goes up, the transceiver sends each packet back down, every one of them is counted."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(name="call", daemon=True)
        self.client, self.transceiver = Source(), Source()
        self.edge = edge
        self.sent = 0
        self.up: list[int] = []
        self.down: list[int] = []
        self._over = threading.Event()

    def connect(self, ufrag: str) -> None:
        """Open the flow, as a client and a transceiver do."""
        request = check(ufrag)
        self.client.send(request, self.edge.address)
        wait_for(lambda: self.transceiver.heard() != [], "the check at the transceiver")
        self._answer(check(answer_to=request))
        wait_for(lambda: self.client.heard() != [], "the answer at the client")

    def run(self) -> None:
        while not self._over.wait(0.002):
            self.client.send(rtp(self.sent), self.edge.address)
            self.sent += 1
            self._listen()

    def finish(self) -> None:
        """End it, when all that was sent has arrived or is surely lost."""
        self._over.set()
        self.join(PATIENCE_S)
        ends = time.monotonic() + PATIENCE_S
        while len(self.down) < self.sent and time.monotonic() < ends:
            self._listen()
            time.sleep(0.002)

    def _listen(self) -> None:
        for data in self.transceiver.heard():
            packet = data[read_up(data, [HEADER_KEY]).offset :]
            if packet[0] == 0x80 and packet[8:12] == b"call":
                self.up.append(int.from_bytes(packet[2:4], "big"))
                self._answer(packet)
        self.down += [int.from_bytes(packet[2:4], "big") for packet in self.client.heard() if packet[8:12] == b"call"]

    def _answer(self, payload: bytes) -> None:
        self.transceiver.send(
            down_header(*self.client.address, SESSION, HEADER_KEY) + payload, self.edge.internal_address
        )


@dataclasses.dataclass
class Scene:
    """An edge with a call through it. `before` is what it had counted when the attack began."""

    edge: Edge
    call: Call
    before: Any

    def attack(self, source: Source, datagrams: Iterator[bytes] | list[bytes]) -> int:
        """Send, no faster than the edge takes it; return how many went out."""
        count = 0
        for count, data in enumerate(datagrams, 1):
            source.send(data, self.edge.address)
            if count % BURST == 0:
                self.settle()
        self.settle()
        return count

    def settle(self) -> None:
        """Wait until the edge has dealt with all that was sent so far, at either socket.

        A packet of the call that leaves after it has come back, so all of it was read; what the compiled half left to
        the loop in that turn is done once a packet of a later turn has come back as well.
        """
        for _ in range(2):
            later = self.call.sent + 1  # the one before may have left already
            wait_for(functools.partial(self._came_back, later), f"the call's packet {later}")

    def _came_back(self, number: int) -> bool:
        return bool(self.call.down) and self.call.down[-1] >= number

    def drops(self) -> dict[str, int]:
        """All drops since the attack began, by reason."""
        found = {
            reason: count - self.before.dropped.get(reason, 0) for reason, count in self.edge.counters().dropped.items()
        }
        return {reason: count for reason, count in found.items() if count}

    def assert_the_call_goes_on(self) -> None:
        """No packet of it was lost, repeated or turned round, either way."""
        self.call.finish()
        assert self.call.up == list(range(self.call.sent))
        assert self.call.down == list(range(self.call.sent))
        counters = self.edge.counters()
        assert counters.overflowed == 0
        assert counters.captured == 2 * self.call.sent


@contextmanager
def scene(path: Path, limits: Limits | None = None) -> Iterator[Scene]:
    """Run an edge and a call through it."""
    emitter = Emitter(
        lambda: SqliteEventLog(path / "log.sqlite"), role="edge", region="test", host_id="host-1", flush_s=0.05
    )
    plain = EdgeConfig(
        name="edge-1",
        region="test",
        bind=(LOOPBACK, 0),
        internal_bind=(LOOPBACK, 0),
        transceivers={},
        keys={1: KEY},
        host_id="host-1",
        probes=False,  # the transceiver here is a plain socket
        # On a busy machine an edge that is behind would rightly refuse and shed; that is measured elsewhere.
        limits=dataclasses.replace(limits or Limits(), late_s=60.0, refuse_behind_s=60.0, shed_behind_s=60.0),
    )
    edge = Edge(plain, emitter)
    call = Call(edge)
    edge.know({"alph": call.transceiver.address})
    emitter.start()
    stop = threading.Event()
    loop = threading.Thread(target=edge.run, args=(stop,), name="edge", daemon=True)
    loop.start()
    try:
        call.connect(new_ufrag())
        call.start()
        yield Scene(edge, call, edge.counters())
    finally:
        call.finish()
        stop.set()
        loop.join(PATIENCE_S)
        emitter.close()


def check(ufrag: str | None = None, answer_to: bytes | None = None, password: str = "password") -> bytes:
    """Return a connectivity check, or the answer to one."""
    message = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.REQUEST if answer_to is None else stun.Class.RESPONSE,
        transaction_id=secrets.token_bytes(12) if answer_to is None else answer_to[8:20],
    )
    if ufrag is not None:
        message.attributes["USERNAME"] = f"{ufrag}:theirs"
        message.attributes["PRIORITY"] = 1_845_501_695
    message.add_message_integrity(password.encode())
    message.add_fingerprint()
    return bytes(message)


def rtp(seq: int, ssrc: bytes = b"call") -> bytes:
    """Return a voice packet of 172 bytes."""
    return struct.pack("!BBHI4s", 0x80, 111, seq & 0xFFFF, seq * 960 % 2**32, ssrc) + bytes(160)
