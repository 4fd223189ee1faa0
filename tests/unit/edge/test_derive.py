"""The compiled way from rows to facts against the portable one, on rows as a stranger could make them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from relay.edge import wire
from relay.edge.capture import EDGE_DOWN, EDGE_UP, HEAD_BYTES, Capture, Columns
from relay.edge.compiled import CompiledDeriver
from relay.edge.derive import Array, Deriver, Packets, PortableDeriver
from relay.edge.flows import Flow
from relay.edge.owners import Owners
from relay.edge.wire.build import build

MS = 1_000_000
EVER = (1 << 63) - 1


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """Build what is compiled, as set-up does."""
    assert build() is not None
    wire.load.cache_clear()


def outcome(steps: Iterator[Any]) -> Any:
    found = None
    for step in steps:
        found = step
    return found


def sorted_by_stream(packets: Packets | None) -> Packets:
    if packets is None:
        return {}
    session = np.ascontiguousarray(packets["session"]).view("S16")[:, 0]
    order = np.lexsort((packets["stream"], packets["tap"], session))
    return {name: values[order] for name, values in packets.items()}


def assert_same(portable: Packets, compiled: Packets) -> None:
    assert portable.keys() == compiled.keys()
    for name, values in portable.items():
        assert values.dtype == compiled[name].dtype
        np.testing.assert_array_equal(values, compiled[name], err_msg=name)


def arrays(deriver: Deriver, packets: Packets) -> dict[str, Array]:
    found: dict[str, Array] = outcome(deriver.arrays(packets))
    return found


class Both:
    """Both ways, with the same owners: three sessions, one of which two owners share."""

    def __init__(self, streams_per_tap: int = 8) -> None:
        self.owners = Owners()
        for owner, session in enumerate((b"a" * 16, b"b" * 16, b"c" * 16, b"b" * 16)):
            self.owners.new(session, owner)
        self.ids = [one for one in range(len(self.owners.codes)) if self.owners.codes[one] >= 0]
        self.portable = PortableDeriver(streams_per_tap)
        self.compiled = CompiledDeriver(wire.load(), streams_per_tap)

    def take(self, rows: list[tuple[int, int, bytes, int, int]]) -> Packets:
        """Derive rows of owner, tap, packet, time and TOS both ways; return what both say."""
        columns = self._columns(rows)
        expected = sorted_by_stream(outcome(self.portable.derive(columns, self.owners)))
        given = outcome(self.compiled.derive(columns, self.owners))
        assert_same(expected, sorted_by_stream(given))
        for count in ("lost", "found", "refused"):
            assert getattr(self.portable, count) == getattr(self.compiled, count)
        if given is not None:
            one, other = arrays(self.portable, given), arrays(self.compiled, given)
            assert one.keys() == other.keys()
            for name, array in one.items():
                other[name].validate(full=True)
                assert array.equals(other[name]), name
        return expected

    def _columns(self, rows: list[tuple[int, int, bytes, int, int]]) -> Columns:
        capture = Capture(max(1, len(rows)))
        for owner, tap, data, at_ns, tos in rows:
            flow = Flow(("192.0.2.1", 1), b"", ("192.0.2.2", 1), 0, self.ids[owner])
            capture.packet(flow, tap, data, at_ns, tos)
        return capture.take()[0]


def rtp(seq: int, ts: int, ssrc: int, rest: bytes = b"", first: int = 0x80, second: int = 111) -> bytes:
    return struct.pack("!BBHII", first, second, seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc) + rest


SMALL_STEPS = (1, 1, 1, 1, 1, 2, 0, -1, -2, 3)
JUMPS = (-130, -128, -127, -100, -99, 127, 128, 129, 2_999, 3_000, 3_001, 32_768, 65_535)
ELEMENTS = (b"\0", b"\x10\xaa", b"\x20\x7f", b"\x31\1\2", b"\xf0\0", b"\2\1\5", b"\1\1\x85", b"\1\0")


def body(chance: random.Random) -> bytes:
    """Bytes behind the fixed header: any, or a header extension that may lie about itself."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(80))
    profile = chance.choice((0xBEDE, 0xBEDE, 0x1000, 0x100F, 0xABCD))
    elements = b"".join(chance.choices(ELEMENTS, k=chance.randrange(32)))
    words = chance.choice((0, 1, 2, 3, 12, 13, 65_535, len(elements) // 4, len(elements) // 4))
    return struct.pack("!HH", profile, words) + elements


def walk(chance: random.Random, rows: int) -> list[tuple[int, int, bytes, int, int]]:
    """Rows of streams whose numbers and times go on in small steps and in jumps."""
    numbers: dict[tuple[int, ...], int] = {}
    at_ns, made = chance.choice((0, 1_760_000_000_000_000_000)), []
    wild = chance.choice((0.0, 0.05, 0.5))
    for _ in range(rows):
        stream = chance.randrange(4), chance.choice((EDGE_UP, EDGE_DOWN)), chance.choice((0, 1, 2, 2**32 - 1))
        steps = JUMPS if chance.random() < wild else SMALL_STEPS
        seq = numbers[stream] = numbers.get(stream, chance.choice((0, 65_530))) + chance.choice(steps)
        at_ns += chance.choice((20 * MS, 0, -MS, chance.randrange(-5_000, 5_000)))
        odd_ns = chance.choice((0, -(2**61), 2**61)) if chance.random() < wild / 10 else at_ns
        ts = seq * 960 + (chance.randrange(2**32) if chance.random() < wild else 0)
        data = rtp(seq, ts, stream[2], body(chance), chance.randrange(0x80, 0xC0), chance.randrange(256))
        made.append((stream[0], stream[1], data, odd_ns, chance.choice((-1, 0, 3, 184, 255))))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_say_the_same_of_anything(seed: int) -> None:
    chance = random.Random(seed)
    both = Both(chance.choice((1, 3, 8)))
    for _ in range(4):
        both.take(walk(chance, chance.choice((0, 1, 7, 8, 9, 300))))
        before_ns = chance.choice((-EVER, 0, 1_760_000_000_000_000_000))
        both.portable.forget(before_ns)
        both.compiled.forget(before_ns)


@pytest.mark.parametrize("streams", [1, 40, 5_000])
def test_both_ways_say_the_same_of_long_streams(streams: int) -> None:
    rng = np.random.default_rng(streams)
    both, seq = Both(streams), np.zeros(streams, np.int64)
    for _ in range(3):
        rows = []
        for n, one in enumerate(rng.integers(0, streams, 12_000).tolist()):
            seq[one] += rng.choice([1, 1, 1, 1, 1, 1, 1, 2, 0, -1, 40, 5_000], p=[*[0.13] * 7, *[0.018] * 5])
            data = rtp(int(seq[one]), int(seq[one]) * 960, one, b"opus")
            rows.append((1, one % 2, data, n * 20 * MS, 184))
        packets = both.take(rows)
        assert len(packets["stream"]) == 12_000
    assert both.compiled.lost > 0
    for deriver in (both.portable, both.compiled):
        deriver.forget(EVER)
    assert not both.take([(1, 0, rtp(7, 7, 0), 0, 0)])["newly_lost"].any()


def test_the_compiled_way_sorts_as_facts_are_sorted() -> None:
    both = Both()
    rows = [
        (one, tap, rtp(n, n, ssrc), n, 0) for n in range(9) for one in (3, 1, 0, 2) for tap in (0, 1) for ssrc in (9, 2)
    ]
    packets = outcome(both.compiled.derive(both._columns(rows), both.owners))
    keys = [
        (session.tobytes(), ("edge_up", "edge_down")[tap], int(ssrc))
        for session, tap, ssrc in zip(packets["session"], packets["tap"], packets["stream"], strict=True)
    ]
    assert keys == sorted(keys)


def test_streams_that_are_invented_on_the_way_up_cost_the_other_direction_and_other_calls_nothing() -> None:
    both = Both(streams_per_tap=2)
    for _ in range(2):  # the second time as if all had ended, which frees all places
        invented = [(1, EDGE_UP, rtp(0, 0, ssrc), ssrc, 0) for ssrc in range(9)]
        true = [
            (1, EDGE_DOWN, rtp(0, 0, 1), 20, 0),
            (3, EDGE_DOWN, rtp(0, 0, 2), 21, 0),
            (0, EDGE_UP, rtp(0, 0, 1), 22, 0),
        ]
        refused = both.compiled.refused
        packets = both.take(invented + true)
        assert sorted(packets["observed_ns"].tolist()) == [0, 1, 20, 21, 22]
        assert both.compiled.refused == refused + 7
        for deriver in (both.portable, both.compiled):
            deriver.forget(EVER)


def test_rows_without_a_session_are_left_out_and_long_packets_keep_their_size() -> None:
    both = Both()
    columns = both._columns([(0, EDGE_UP, rtp(1, 1, 1, bytes(1_400)), 0, 0)] * 2)
    columns.owner[1] = len(both.owners.codes)
    packets = outcome(both.compiled.derive(columns, both.owners))
    assert (packets["size_bytes"].tolist(), both.compiled.refused) == ([1_412], 1)
    assert columns.head.shape == (2, HEAD_BYTES)
