"""Keeps: signed, bounded, and of no use to whoever sends one again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.edge.capture import Capture
from relay.edge.config import EdgeConfig, Limits
from relay.edge.flows import FlowTable
from relay.edge.keeps import Keeps
from relay.edge.router import Router
from relay.edge.sampling import Sampling
from relay.encap import derive
from relay.keep import KEEP, Keep, KeepError, read_keep, write_keep

KEY, OLD, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 3))
SECOND = 1_000_000_000
NOW = 1_790_000_000 * SECOND


def keeps(sessions_max: int = 10) -> Keeps:
    return Keeps(Sampling("sampled"), [KEY, OLD], {ONE, TWO, THREE}.__contains__, sessions_max)


def asked(session: bytes = ONE, at_ns: int = NOW, back_ms: int = 6000, ahead_ms: int = 5000, key: bytes = KEY) -> bytes:
    return write_keep(Keep(session, at_ns, back_ms, ahead_ms), key)


def spans(held: Keeps) -> list[tuple[bytes, int, int]]:
    sessions, begins, ends = held.spans()
    return [(bytes(s), int(b) - NOW, int(e) - NOW) for s, b, e in zip(sessions, begins, ends, strict=True)]


def test_what_is_asked_for_is_held_to_the_policy() -> None:
    held = keeps()
    assert spans(held) == []
    assert held.take(asked(back_ms=1000, ahead_ms=2000), NOW + 5) is None
    assert held.take(asked(TWO, back_ms=0xFFFF, ahead_ms=0xFFFF, key=OLD), NOW) is None
    assert spans(held) == [(ONE, -SECOND, 2 * SECOND), (TWO, -6 * SECOND, 5 * SECOND)]
    assert held.take(asked(at_ns=NOW + SECOND), NOW + SECOND) is None
    assert spans(held)[0] == (ONE, -5 * SECOND, 6 * SECOND)
    assert held.taken == 3


def test_sent_again_it_changes_nothing_and_later_it_is_refused() -> None:
    held = keeps()
    data = asked()
    assert held.take(data, NOW) is None
    before = spans(held)
    assert held.take(data, NOW + 6 * SECOND) is None
    assert spans(held) == before
    assert held.take(data, NOW + 6 * SECOND + 1) == "stale_keep"
    assert held.take(data, NOW - 6 * SECOND - 1) == "stale_keep"


def test_only_sessions_that_come_by_and_no_more_than_may() -> None:
    held = keeps(2)
    assert held.take(asked(bytes(16)), NOW) == "unknown_keep"
    assert [held.take(asked(session), NOW) for session in (ONE, TWO, THREE)] == [None, None, "full_keep"]
    assert held.take(asked(ONE), NOW) is None
    held.forget(NOW + 5 * SECOND + 1)
    assert spans(held) == []
    assert held.take(asked(THREE), NOW) is None


def test_what_is_over_is_forgotten_so_that_a_span_never_grows_for_ever() -> None:
    held = keeps()
    for second in range(60):
        assert held.take(asked(at_ns=NOW + second * SECOND), NOW + second * SECOND) is None
        held.forget(NOW + (second - 7) * SECOND)
        (span,) = spans(held)
        assert span[2] - span[1] <= 12 * SECOND


def test_whoever_has_not_the_key_is_refused() -> None:
    assert keeps().take(asked(key=OTHER), NOW) == "malformed_keep"
    with pytest.raises(KeepError, match="MAC"):
        read_keep(asked(), [OTHER])
    with pytest.raises(KeepError, match="16 bytes"):
        asked(b"short")
    with pytest.raises(KeepError, match="fit"):
        asked(back_ms=1 << 16)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: bytes((KEEP, 0)) + tail))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(KeepError):
        read_keep(data, [KEY])


@given(st.integers(0, 8 * 44 - 1))
def test_every_bit_is_signed(bit: int) -> None:
    changed = bytearray(asked())
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(KeepError):
        read_keep(bytes(changed), [KEY])


def test_the_router_listens_to_transceivers_only_and_forwards_nothing_of_it(config: EdgeConfig) -> None:
    flows = FlowTable(Limits(), bytes(32))
    router = Router(config, flows, Capture(10))
    flows.owners.new(ONE)
    key = derive(next(iter(config.keys.values())))
    ((_, transceiver),) = list(config.transceivers.items())[:1]
    data = asked(key=key)
    assert router.down([(data, ("192.0.2.77", 9), NOW, -1)], 0) == []
    assert router.up([(data, transceiver, NOW, -1)], 0) == []
    assert router.keeps.taken == 0
    assert router.down([(data, transceiver, NOW, -1), (data[:-1], transceiver, NOW, -1)], 0) == []
    assert router.keeps.taken == 1
    assert router.dropped == {"unknown_peer": 1, "unknown_kind": 1, "malformed_keep": 1}
