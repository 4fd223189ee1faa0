"""Datagrams from the internet at an edge: it never raises, sends only to allow-listed transceivers, adds no more than
its header, and keeps nothing for a source that has not shown a valid ufrag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.encap import UP_BYTES_MAX
from tests.fuzz import messages_of
from tests.fuzz.edge_bench import Bench
from tests.fuzz.records import pack, unpack

MODULES: Final[tuple[str, ...]] = ("relay.edge", "relay.stun", "relay.ufrag", "relay.encap")

_SOURCES: Final = (("192.0.2.1", 4000), ("192.0.2.1", 4001), ("198.51.100.7", 5000), ("2001:db8::1", 6000))
_ANSWERED: Final = 0x10  # the transceiver answers this source before its datagram comes
_LATER: Final = 0x20  # ten seconds pass before


def seeds() -> Mapping[str, bytes]:
    """Calls, a move, a hand-over, and what strangers send."""
    first, second, gone = (messages_of.check(f"{ufrag}:theirs") for ufrag in messages_of.UFRAGS)
    voice = messages_of.rtp(level=0x9A)
    return {
        "call": pack([(0, first), (_ANSWERED, messages_of.dtls()), (0, voice), (0, messages_of.check(response=True))]),
        "move": pack([(0, first), (_ANSWERED, voice), (1, first), (1, voice), (_LATER, voice)]),
        "hand-over": pack([(0, first), (_ANSWERED | _LATER, voice), (0, second), (_ANSWERED, voice)]),
        "gone": pack([(2, gone), (2, voice)]),
        "ipv6": pack([(3, first), (3, voice)]),
        "strangers": pack(
            [
                (2, messages_of.check("abcd:efgh")),
                (2, messages_of.check()),
                (2, messages_of.allocate()),
                (2, messages_of.dtls()),
                (2, b"\x80\xc8" + bytes(26)),
                (2, b""),
                (2, b"\x40\0\0\4abcd"),
            ]
        ),
    }


def run(data: bytes) -> None:
    """Send each datagram on its own and look at what came of it."""
    bench = Bench()
    shown: set[tuple[str, int]] = set()
    for kind, datagram in unpack(data):
        source = _SOURCES[kind & 3]
        if kind & _LATER:
            bench.later(10.0)
        if kind & _ANSWERED and source in shown:
            bench.answer(source)
        if any(ufrag.encode() in datagram for ufrag in messages_of.UFRAGS):
            shown.add(source)
        kept = bench.kept()
        out = bench.up(datagram, source)
        assert all(address in (messages_of.ALPHA, messages_of.BETA) for _, address in out)
        assert sum(len(payload) for payload, _ in out) <= len(datagram) + UP_BYTES_MAX
        if source not in shown:
            assert not out
            assert bench.kept() == kept, "something was kept for a stranger"
    assert set(bench.flows.by_address) <= shown
    bench.flush()
