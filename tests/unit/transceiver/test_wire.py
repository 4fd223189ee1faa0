from __future__ import annotations

import asyncio
import socket

import pytest

from relay.transceiver.counters import Counters
from relay.transceiver.wire import EXPEDITED, Wire


@pytest.mark.parametrize(
    ("host", "level", "asked", "told"),
    [
        ("127.0.0.1", socket.IPPROTO_IP, socket.IP_RECVTOS, socket.IP_TOS),
        ("::1", socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS),
    ],
)
async def test_what_leaves_is_marked_for_expedited_forwarding(host: str, level: int, asked: int, told: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wire = Wire((host, 0), lambda *_: None, Counters(), batch=8, voice_due=lambda: False)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as edge:
            edge.bind((host, 0))
            edge.settimeout(20)
            edge.setsockopt(level, asked, 1)
            wire.send(b"voice", edge.getsockname()[:2])
            _, control, _, _ = edge.recvmsg(100, 100)
    finally:
        wire.close()
    assert [(kind, value[0]) for its, kind, value in control if its == level] == [(told, EXPEDITED)]


@pytest.mark.parametrize(("voice_due", "at_once"), [(False, 8), (True, 1)])
async def test_a_tick_that_is_due_waits_for_one_datagram_at_most(voice_due: bool, at_once: int) -> None:
    loop, read, turns = asyncio.get_running_loop(), asyncio.Event(), 0
    heard: list[int] = []

    def receive(data: bytes, source: tuple[str, int], arrival_ns: int) -> None:
        del data, source, arrival_ns
        heard.append(turns)
        if len(heard) == 24:
            read.set()

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not read.is_set():
            loop.call_soon(turn)

    wire = Wire(("127.0.0.1", 0), receive, Counters(), batch=8, voice_due=lambda: voice_due)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as edge:
            for _ in range(24):
                edge.sendto(b"voice", wire.address)
        turn()
        await asyncio.wait_for(read.wait(), 20)
    finally:
        wire.close()
    assert [heard.count(number) for number in sorted(set(heard))] == [at_once] * (24 // at_once)
