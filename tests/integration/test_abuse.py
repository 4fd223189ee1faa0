"""What strangers may send to an edge, while a call goes on through it. Every test prints its figures (`pytest -s`)."""

from __future__ import annotations

import random
import secrets
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aioice import stun

from relay.edge import Limits
from relay.ufrag import UFRAG_CHARS
from tests.integration.abuse_tools import Scene, Source, check, rtp, scene
from tests.integration.edge_tools import new_ufrag

COUNT = 2_000
_ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def figures(what: str, sent: int, bytes_in: int, bytes_out: int, drops: dict[str, int], **more: object) -> None:
    extra = "".join(f"; {name} {value}" for name, value in more.items())
    print(f"\n{what}: {sent} datagrams, {bytes_in} B in, {bytes_out} B out; {drops}{extra}")  # noqa: T201 - -s shows it


def turn_allocate() -> bytes:
    message = stun.Message(message_method=stun.Method.ALLOCATE, message_class=stun.Class.REQUEST)
    message.attributes["REQUESTED-TRANSPORT"] = 0x11000000
    message.attributes["USERNAME"] = new_ufrag()
    return bytes(message)


def turn_channel_data() -> bytes:
    return struct.pack("!HH", 0x4001, 100) + bytes(100)


def client_hello() -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + b"\x00\xb4\x01" + secrets.token_bytes(179)


def sender_report() -> bytes:
    return b"\x80\xc8\x00\x06" + secrets.token_bytes(24)


def broken_stun() -> bytes:
    return check(new_ufrag())[:-4]


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "STUN without a username": (check, "no_username"),
    "STUN of another service": (lambda: check("4ZcD"), "ufrag_malformed"),
    "STUN with a foreign key's ufrag": (lambda: check(new_ufrag(key=bytes(32))), "ufrag_bad_mac"),
    "STUN with an unknown key's ufrag": (lambda: check(new_ufrag(key_id=9)), "ufrag_unknown_key"),
    "STUN for a transceiver that is not on the list": (lambda: check(new_ufrag("gone")), "unknown_transceiver"),
    "STUN answers to nothing": (lambda: check(answer_to=bytes(20)), "unknown_source"),
    "STUN cut short": (broken_stun, "malformed_stun"),
    "TURN allocate": (turn_allocate, "unknown_source"),
    "TURN channel data": (turn_channel_data, "unknown_kind"),
    "DTLS client hello": (client_hello, "unknown_source"),
    "RTP": (lambda: rtp(1), "unknown_source"),
    "RTCP": (sender_report, "unknown_source"),
    "nothing": (lambda: b"", "unknown_kind"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_signed_is_dropped_and_never_answered(kind: str, tmp_path: Path) -> None:
    make, reason = KINDS[kind]
    with scene(tmp_path) as at:
        source = Source()
        sent = at.attack(source, [make() for _ in range(COUNT)])
        heard = source.heard()
        drops = at.drops()
        figures(kind, sent, source.bytes_out, sum(map(len, heard)), drops)
        assert heard == []
        assert drops == {reason: COUNT}
        nothing_was_kept(at)
        at.assert_the_call_goes_on()


def test_garbage_of_every_first_byte_gets_nothing(tmp_path: Path) -> None:
    rng = random.Random(1)
    with scene(tmp_path) as at:
        source = Source()
        sent = at.attack(source, [bytes((n % 256,)) + rng.randbytes(rng.randrange(1_400)) for n in range(2_048)])
        drops = at.drops()
        figures("garbage", sent, source.bytes_out, 0, drops)
        assert source.heard() == []
        assert sum(drops.values()) == sent
        nothing_was_kept(at)
        at.assert_the_call_goes_on()


def test_spoofed_sources_cost_nothing_each(tmp_path: Path) -> None:
    """A thousand source addresses, as one machine that forges them would seem."""
    with scene(tmp_path) as at:
        sources = [Source(f"127.1.{n >> 8}.{n & 255}") for n in range(1, 1_001)]
        sent = 0
        for n, source in enumerate(sources):
            source.send((check(new_ufrag(key=bytes(32))), rtp(n), client_hello())[n % 3], at.edge.address)
            sent += 1
            if sent % 32 == 0:
                at.settle()
        at.settle()
        drops = at.drops()
        figures("spoofed sources", sent, sum(source.bytes_out for source in sources), 0, drops, sources=len(sources))
        assert drops == {"ufrag_bad_mac": 334, "unknown_source": 666}
        assert all(source.heard() == [] for source in sources)
        nothing_was_kept(at)
        at.assert_the_call_goes_on()
        for source in sources:
            source.socket.close()


def test_ufrags_cannot_be_guessed(tmp_path: Path) -> None:
    """The signature has 48 bits: of the guesses here one would pass in 14 billion such tests."""
    rng = random.Random(2)

    def guesses() -> Iterator[bytes]:
        real = new_ufrag()
        for n in range(20_000):
            signature = "".join(rng.choices(_ICE_CHARS, k=8))
            yield check(real[: UFRAG_CHARS - 8] + signature if n % 2 else "B" + "".join(rng.choices(_ICE_CHARS, k=18)))

    with scene(tmp_path) as at:
        source = Source()
        sent = at.attack(source, guesses())
        drops = at.drops()
        figures("guesses", sent, source.bytes_out, 0, drops)
        assert drops == {"ufrag_bad_mac": sent}
        assert source.heard() == []
        nothing_was_kept(at)
        at.assert_the_call_goes_on()


def test_a_captured_request_replayed_from_elsewhere_opens_a_few_flows_and_moves_no_call(tmp_path: Path) -> None:
    """An edge cannot tell a replay from a client that moved, so it keeps few. Nobody answers these."""
    with scene(tmp_path) as at:
        request = check(new_ufrag())
        sources = [Source(f"127.2.0.{n}") for n in range(1, 201)]
        for n, source in enumerate(sources):
            source.send(request, at.edge.address)
            if n % 32 == 0:
                at.settle()
        at.settle()
        counters = at.edge.counters()
        out = sum(len(data) for source in sources for data in source.heard())
        figures("replays", len(sources), len(request) * len(sources), out, at.drops(), flows=counters.flows - 1)
        assert out == 0
        assert counters.flows == 1 + Limits().flows_per_ufrag
        assert counters.flows_closed["evicted"] == len(sources) - Limits().flows_per_ufrag
        at.assert_the_call_goes_on()
        for source in sources:
            source.socket.close()


def test_the_flow_table_cannot_be_filled_by_one_address(tmp_path: Path) -> None:
    """Its holder has as many valid ufrags as it wants."""
    with scene(tmp_path) as at:
        sources = [Source("127.3.0.1") for _ in range(300)]
        for n, source in enumerate(sources):
            source.send(check(new_ufrag()), at.edge.address)
            if n % 32 == 0:
                at.settle()
        at.settle()
        counters = at.edge.counters()
        drops = at.drops()
        figures("one address", len(sources), sum(s.bytes_out for s in sources), 0, drops, flows=counters.flows - 1)
        assert counters.flows == 1 + Limits().flows_per_source
        assert drops == {"source_cap": len(sources) - Limits().flows_per_source}
        at.assert_the_call_goes_on()
        for source in sources:
            source.socket.close()


def test_a_full_flow_table_refuses_new_calls_and_keeps_the_living(tmp_path: Path) -> None:
    """Many addresses with a valid ufrag each, in a table of 100."""
    limits = Limits(flows=100, unanswered_s=0.5)
    with scene(tmp_path, limits) as at:
        sources = [Source(f"127.4.{n >> 8}.{n & 255}") for n in range(1, 401)]
        for n, source in enumerate(sources):
            source.send(check(new_ufrag()), at.edge.address)
            if n % 32 == 0:
                at.settle()
        at.settle()
        opened = at.edge.counters().flows_opened - 1
        drops = at.drops()
        figures("many ufrags", len(sources), sum(s.bytes_out for s in sources), 0, drops, opened=opened)
        assert opened >= limits.flows - 1
        assert opened + drops["flows_full"] == len(sources)
        assert at.edge.counters().flows <= limits.flows
        # Nobody answered them: their places are free again soon, and the call is still there.
        while at.edge.counters().flows > 1:
            at.settle()
        assert at.edge.counters().flows_closed["unanswered"] == opened
        at.assert_the_call_goes_on()
        for source in sources:
            source.socket.close()


def test_the_inner_socket_believes_transceivers_only(tmp_path: Path) -> None:
    """Whoever reaches it can neither send to clients nor open flows."""
    with scene(tmp_path) as at:
        source = Source("127.5.0.1")
        before = at.edge.counters()
        for n in range(COUNT):
            source.send(rtp(n) if n % 2 else b"\x5f\0" + bytes(200), at.edge.internal_address)
            if n % 32 == 0:
                at.settle()
        at.settle()
        figures("inner socket", COUNT, source.bytes_out, 0, at.drops())
        assert at.drops() == {"unknown_peer": COUNT}
        assert source.heard() == []
        assert at.edge.counters().flows == before.flows
        at.assert_the_call_goes_on()


def nothing_was_kept(at: Scene) -> None:
    """One flow, the call's, ever; and nothing captured but the call."""
    counters = at.edge.counters()
    assert (counters.flows, counters.flows_opened) == (1, 1)
