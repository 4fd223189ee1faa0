"""What runs in the processes of the relays that are Python: Sidetone's edge, and the least that asyncio can do."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import structlog

from bench.relays.load import BUFFER_BYTES, LOOPBACK, Address
from eventlog.emitter import Emitter
from eventlog.lean import steady_memory, without_pandas
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig
from relay.encap import DOWN_BYTES, derive, up_header
from sidetone.process import prefer_voice

KEY: Final = bytes(range(32))
HEADER_KEY: Final = derive(KEY)
CODE: Final = "alph"


def edge(control: Connection, transceiver: Address, folder: str, settings: Mapping[str, Any]) -> None:
    """Be an edge, until the other end of `control` closes; answers every message with its counters.

    With `real_time` among the settings it is scheduled as the product's is, where that is allowed.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    without_pandas()
    steady_memory()
    sys.setswitchinterval(0.0005)
    settings = dict(settings)
    if settings.pop("real_time", False):
        prefer_voice()
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
            transceivers={CODE: transceiver},
            keys={0: KEY},
            host_id="bench",
            probes=False,  # the sink counts every datagram that arrives as a packet
            **settings,
        )
        running, stop = Edge(config, emitter), threading.Event()
        answering = threading.Thread(target=_answer, args=(control, running, stop))
        answering.start()
        running.run(stop)
        answering.join()


def _answer(control: Connection, running: Edge, stop: threading.Event) -> None:
    try:
        control.send((running.address, running.internal_address))
        while True:
            control.recv()
            control.send(running.counters())
    except EOFError:
        stop.set()


def forwarder(control: Connection, transceiver: Address, _folder: str, _settings: Mapping[str, Any]) -> None:
    """Be the asyncio forwarder, until the other end of `control` closes."""
    asyncio.run(_forward(control, transceiver))


async def _forward(control: Connection, transceiver: Address) -> None:
    class Up(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Address) -> None:
            header = headers.get(addr)
            if header is None:
                header = headers[addr] = up_header(*addr, HEADER_KEY)
                clients[header[2:8]] = addr
            internal.sendto(header + data, transceiver)

    class Down(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: Address) -> None:
            public.sendto(data[DOWN_BYTES[0] :], clients[data[2:8]])

    headers: dict[Address, bytes] = {}
    clients: dict[bytes, Address] = {}
    loop = asyncio.get_running_loop()
    public, _ = await loop.create_datagram_endpoint(Up, local_addr=(LOOPBACK, 0))
    internal, _ = await loop.create_datagram_endpoint(Down, local_addr=(LOOPBACK, 0))
    for transport in (public, internal):  # as the others: what is compared is not who has the larger buffer
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    control.send((public.get_extra_info("sockname"), internal.get_extra_info("sockname")))
    await asyncio.to_thread(_wait, control)
    public.close()
    internal.close()


def _wait(control: Connection) -> None:
    try:
        control.recv()
    except EOFError:
        return
