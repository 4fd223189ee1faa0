"""Datagrams at an edge's inner socket: nothing raises; only an allow-listed transceiver's authentic header is believed,
and no more goes out to a client than came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.encap import down_header
from tests.fuzz import messages_of
from tests.fuzz.edge_bench import Bench
from tests.fuzz.records import pack, unpack

MODULES: Final[tuple[str, ...]] = ("relay.edge", "relay.stun", "relay.ufrag", "relay.encap")

_CLIENT: Final = ("192.0.2.1", 4000)
_STRANGER: Final = ("203.0.113.9", 9)
_SOURCES: Final = (messages_of.ALPHA, messages_of.BETA, _STRANGER, messages_of.ALPHA)
_LATER: Final = 0x20


def seeds() -> Mapping[str, bytes]:
    """Both directions of a call, a restarted edge, another transceiver, a stranger."""
    header = down_header(*_CLIENT, messages_of.SESSION, messages_of.HEADER_KEY, 1)
    far = down_header("2001:db8::1", 5, messages_of.SESSION, messages_of.HEADER_KEY)
    voice, answer = messages_of.rtp(), messages_of.check(response=True)
    return {
        "call": pack([(0, header + answer), (0, header + messages_of.dtls()), (0, header + voice)]),
        "restarted": pack([(0, far + voice), (_LATER, far + voice)]),
        "other": pack([(0, header + voice), (1, header + voice)]),
        "stranger": pack([(2, header + voice)]),
        "cut": pack([(0, header[:10]), (0, header), (0, b"")]),
    }


def run(data: bytes) -> None:
    """Send each datagram on its own; one client has a flow."""
    bench = Bench()
    bench.up(messages_of.check(f"{messages_of.UFRAGS[0]}:theirs"), _CLIENT)
    for kind, datagram in unpack(data):
        source = _SOURCES[kind & 3]
        if kind & _LATER:
            bench.later(10.0)
        kept = bench.kept()
        out = bench.down(datagram, source)
        assert sum(len(payload) for payload, _ in out) <= len(datagram)
        if source == _STRANGER:
            assert not out
            assert bench.kept() == kept, "something was kept for a stranger"
    bench.flush()
