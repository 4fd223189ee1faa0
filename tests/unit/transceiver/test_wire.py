from __future__ import annotations

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
    wire = Wire((host, 0), lambda *_: None, Counters(), batch=8)
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
