"""How many packets the edge forwards per second of its own CPU, with a fact for every packet and without.

The baseline in the same run is the least that an asyncio relay can do: two datagram endpoints that add and strip the
same header by a dictionary, with no check, no flow, no fact. Each contender is a process of its own, and the CPU of the
whole process counts: with facts on that includes making chunks and appending them to a SQLite log.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import secrets
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import structlog
from aioice import stun

from bench import harness
from eventlog.emitter import Emitter
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig
from relay.encap import DOWN_BYTES, derive, down_header, up_header
from relay.ufrag import mint

PACKETS: Final = 9_600
PACKET_BYTES: Final = 180  # 20 ms of Opus at 64 kbit/s, in SRTP
CLIENTS: Final = 16
BURST: Final = 48  # per direction in flight at once, well within a default receive buffer
LOOPBACK: Final = "127.0.0.1"
KEY: Final = bytes(range(32))
HEADER_KEY: Final = derive(KEY)
SETTLE_S: Final = 0.5  # for the facts of a run to be flushed and logged: their CPU counts
PATIENCE_S: Final = 0.5
Address = tuple[str, int]


def serve_edge(control: Connection, transceiver: Address, folder: str, *, facts: bool) -> None:
    """Be the edge, until the other end of `control` closes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with ExitStack() as ending:
        log = Path(folder) / f"{secrets.token_hex(4)}.sqlite"
        emitter = Emitter(lambda: SqliteEventLog(log), role="edge", region="bench", host_id="bench")
        emitter.start()
        ending.callback(emitter.close)
        config = EdgeConfig(
            name="bench",
            region="bench",
            bind=(LOOPBACK, 0),
            internal_bind=(LOOPBACK, 0),
            transceivers={"alph": transceiver},
            keys={0: KEY},
            host_id="bench",
            packet_facts=facts,
        )
        edge = Edge(config, emitter)
        stop = threading.Event()
        answering = threading.Thread(target=_answer, args=(control, (edge.address, edge.internal_address), stop))
        answering.start()
        edge.run(stop)
        answering.join()


def serve_asyncio(control: Connection, transceiver: Address, _folder: str) -> None:
    """Be the asyncio forwarder, until the other end of `control` closes."""
    asyncio.run(_forward(control, transceiver))


async def _forward(control: Connection, transceiver: Address) -> None:
    class Up(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Address) -> None:
            header = headers.get(addr)
            if header is None:
                header = headers[addr] = up_header(*addr, HEADER_KEY)
                clients[header[1:]] = addr
            internal.sendto(header + data, transceiver)

    class Down(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: Address) -> None:
            public.sendto(data[DOWN_BYTES[0] :], clients[data[1:8]])

    headers: dict[Address, bytes] = {}
    clients: dict[bytes, Address] = {}
    loop = asyncio.get_running_loop()
    public, _ = await loop.create_datagram_endpoint(Up, local_addr=(LOOPBACK, 0))
    internal, _ = await loop.create_datagram_endpoint(Down, local_addr=(LOOPBACK, 0))
    stop = threading.Event()
    addresses = (public.get_extra_info("sockname"), internal.get_extra_info("sockname"))
    await asyncio.to_thread(_answer, control, addresses, stop)
    public.close()
    internal.close()


def _answer(control: Connection, addresses: tuple[Address, Address], stop: threading.Event) -> None:
    """Tell the addresses, then this process's CPU seconds as often as asked."""
    try:
        control.send(addresses)
        while True:
            control.recv()
            control.send(time.process_time())
    except EOFError:
        stop.set()


class Contender:
    """A forwarder's process with sixteen connected clients and the transceiver behind it."""

    def __init__(self, ending: ExitStack, folder: str, serve: Callable[..., None], **options: object) -> None:
        self._transceiver = ending.enter_context(_udp())
        self._clients = [ending.enter_context(_udp()) for _ in range(CLIENTS)]
        self._control, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(
            target=serve, args=(theirs, self._transceiver.getsockname(), folder), kwargs=options, daemon=True
        )
        process.start()
        theirs.close()
        ending.callback(process.join, 5)
        ending.callback(self._control.close)
        self._settle_s = SETTLE_S if options.get("facts") else 0.0
        self._sequence = 0
        self._down_headers: list[bytes] = []

    def connect(self) -> None:
        """Wait for the process and let every client be known to it."""
        self._public, self._internal = self._control.recv()
        for number, client in enumerate(self._clients):
            self._connect(client, number)

    def run(self) -> harness.Work:
        """Pass packets both ways in bursts; count what arrived."""
        cpu, started = self._cpu_s(), time.perf_counter()
        arrived = 0
        for _ in range(PACKETS // (2 * BURST)):
            arrived += self._burst()
        wall = time.perf_counter() - started
        time.sleep(self._settle_s)
        return harness.Work(arrived, wall_s=wall, cpu_s=self._cpu_s() - cpu, detail={"lost": PACKETS - arrived})

    def _burst(self) -> int:
        self._sequence += 1
        header = struct.pack("!BBHII", 0x80, 111, self._sequence & 0xFFFF, self._sequence * 960 & 0xFFFFFFFF, 7)
        packet = header.ljust(PACKET_BYTES, b"x")
        for n in range(BURST):
            self._clients[n % CLIENTS].sendto(packet, self._public)
            self._transceiver.sendto(self._down_headers[n % CLIENTS] + packet, self._internal)
        arrived = sum(_received(self._transceiver) for _ in range(BURST))
        return arrived + sum(_received(self._clients[n % CLIENTS]) for n in range(BURST))

    def _connect(self, client: socket.socket, number: int) -> None:
        check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        check.attributes["USERNAME"] = mint("alph", KEY, 0, secrets.token_bytes(5)) + ":bench"
        client.sendto(bytes(check), self._public)
        self._transceiver.recv(2048)
        host, port = client.getsockname()
        header = down_header(host, port, (number + 1).to_bytes(16, "big"), HEADER_KEY)
        self._down_headers.append(header)
        self._transceiver.sendto(header + bytes(check), self._internal)
        client.recv(2048)

    def _cpu_s(self) -> float:
        self._control.send(None)
        cpu: float = self._control.recv()
        return cpu


def _udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((LOOPBACK, 0))
    made.settimeout(PATIENCE_S)
    return made


def _received(udp: socket.socket) -> int:
    try:
        udp.recv(2048)
    except TimeoutError:
        return 0
    return 1


def main() -> None:
    """Run all contenders, interleaved, and print medians and ratios."""
    options = harness.arguments(__doc__ or "").parse_args()
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-"))
        contenders = {
            "edge_with_facts": Contender(ending, folder, serve_edge, facts=True),
            "edge_without_facts": Contender(ending, folder, serve_edge, facts=False),
            "asyncio": Contender(ending, folder, serve_asyncio),
        }
        for contender in contenders.values():
            contender.connect()
        medians = harness.rounds({name: contender.run for name, contender in contenders.items()}, options.rounds)
    baseline = medians["asyncio"].per_cpu_s
    harness.report(
        {
            "packet_bytes": PACKET_BYTES,
            "packets_per_run": PACKETS,
            "rounds": options.rounds,
            "packets_per_cpu_s": {name: median.per_cpu_s for name, median in medians.items()},
            "lost_packets": {name: median.detail["lost"] for name, median in medians.items()},
            "vs_asyncio": medians["edge_with_facts"].per_cpu_s / baseline,
            "vs_asyncio_without_facts": medians["edge_without_facts"].per_cpu_s / baseline,
            "vs_c": None,
            "vs_coturn": None,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
