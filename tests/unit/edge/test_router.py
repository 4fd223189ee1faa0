from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from relay.edge import EdgeConfig, Limits
from relay.edge.capture import Capture
from relay.edge.flows import FlowTable
from relay.edge.router import Datagram, Router
from relay.encap import Client, derive, down_header, read_up

ALPHA, BETA = ("10.0.0.1", 7000), ("10.0.0.2", 7000)
CLIENT, OTHER = ("192.0.2.1", 4000), ("198.51.100.7", 5000)
HEADER_KEY = derive(bytes(range(32)))
SESSION, NEXT_SESSION = b"s" * 16, b"t" * 16
Check = Callable[..., bytes]
Make = Callable[..., str]


@dataclasses.dataclass
class Bench:
    """A router with its state, and the time in hand."""

    config: EdgeConfig
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.flows = FlowTable(self.config.limits, HEADER_KEY)
        self.capture = Capture(self.config.limits.rows)
        self.router = Router(self.config, self.flows, self.capture)

    def captured(self) -> list[tuple[bytes | None, int, int]]:
        """Session, tap and size of each packet."""
        columns, owners = self.capture.columns, self.flows.owners
        return [
            (
                owners.sessions[owner].tobytes() if owners.codes[owner] >= 0 else None,
                int(columns.tap[row]),
                int(columns.size[row]),
            )
            for row, owner in enumerate(columns.owner[: self.capture.waiting])
        ]

    def datagram(self, data: bytes, source: tuple[str, int], at_ns: int) -> Datagram:
        return data, source, at_ns, 184

    def up(self, data: bytes, source: tuple[str, int] = CLIENT, at_ns: int = 0) -> list[tuple[bytes, tuple[str, int]]]:
        return self.router.up([self.datagram(data, source, at_ns)], self.now_ns)

    def down(
        self,
        payload: bytes,
        source: tuple[str, int] = ALPHA,
        client: tuple[str, int] = CLIENT,
        session: bytes = SESSION,
        at_ns: int = 0,
    ) -> list[tuple[bytes, tuple[str, int]]]:
        return self.router.down(
            [self.datagram(down_header(*client, session, HEADER_KEY) + payload, source, at_ns)], self.now_ns
        )


@pytest.fixture
def bench(config: EdgeConfig) -> Bench:
    return Bench(config)


def test_a_verified_request_finds_the_transceiver_that_its_ufrag_names(bench: Bench, ufrag: Make, check: Check) -> None:
    for code, transceiver in (("alph", ALPHA), ("beta", BETA)):
        source = ("192.0.2.1", transceiver[0].count("2") + 1)
        request = check(f"{ufrag(code)}:theirs")
        ((sent, address),) = bench.up(request, source)
        assert address == transceiver
        assert read_up(sent, [HEADER_KEY]) == (Client(*source), 16)
        assert sent[16:] == request


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown_kind"),
        (b"\x80", "unknown_source"),
        (b"\x80\x6f" + bytes(30), "unknown_source"),
        (b"\x80\xc8" + bytes(30), "unknown_source"),
        (b"\x16\xfe\xfd" + bytes(30), "unknown_source"),
        (b"\x40\x00\x00\x04abcd", "unknown_kind"),
        (b"\x5e\x00" + bytes(30), "unknown_kind"),
        (b"\x5f\x00" + bytes(30), "unknown_kind"),
        (b"\x00\x01\x00\x00", "malformed_stun"),
        (b"\xff" * 1400, "unknown_kind"),
    ],
)
def test_what_strangers_send_goes_nowhere_and_is_counted(bench: Bench, data: bytes, reason: str) -> None:
    assert bench.up(data) == []
    assert dict(bench.router.dropped) == {reason: 1}
    assert not bench.flows.by_address


def test_requests_without_a_good_ufrag_open_nothing(bench: Bench, ufrag: Make, check: Check) -> None:
    forged = ufrag(key=bytes(32))
    for username, reason in (
        (None, "no_username"),
        ("abcd:efgh", "ufrag_malformed"),
        (f"{forged}:theirs", "ufrag_bad_mac"),
        (f"{ufrag(key_id=2)}:theirs", "ufrag_unknown_key"),
        (f"{ufrag('gamm')}:theirs", "unknown_transceiver"),
        (f"theirs:{ufrag()}", "ufrag_malformed"),
    ):
        assert bench.up(check(username)) == []
        assert bench.router.dropped[reason] >= 1
    assert not bench.flows.by_address
    assert bench.up(check(answer_to=check())) == []
    assert bench.router.dropped["unknown_source"] == 1


def test_media_follows_its_flow_both_ways(bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]) -> None:
    request = check(f"{ufrag()}:theirs")
    bench.up(request)
    assert bench.down(check(answer_to=request)) == [(check(answer_to=request), CLIENT)]
    ((sent, address),) = bench.up(rtp(1))
    assert (sent[16:], address) == (rtp(1), ALPHA)
    assert bench.down(rtp(9, ssrc=8)) == [(rtp(9, ssrc=8), CLIENT)]
    assert bench.up(b"\x16\xfe\xfd" + bytes(30)) != []
    assert bench.up(rtp(2), OTHER) == []
    assert bench.captured() == [(SESSION, 0, 16), (SESSION, 1, 16)]


def test_rtcp_and_dtls_are_forwarded_but_are_no_packet_facts(bench: Bench, ufrag: Make, check: Check) -> None:
    bench.up(check(f"{ufrag()}:theirs"))
    for data in (b"\x80\xc8" + bytes(30), b"\x81\xc9" + bytes(6), b"\x16\xfe\xfd" + bytes(30), b"\x90"):
        assert len(bench.up(data)) == 1
        assert len(bench.down(data)) == 1
    assert not bench.captured()


def test_only_allow_listed_transceivers_reach_clients(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench.up(check(f"{ufrag()}:theirs"))
    assert bench.down(rtp(1), source=("10.0.0.1", 7001)) == []
    assert bench.down(rtp(1), source=("10.6.6.6", 7000), client=OTHER) == []
    assert bench.router.dropped["unknown_peer"] == 2
    assert bench.down(rtp(1), source=BETA) == []
    assert bench.router.dropped["wrong_transceiver"] == 1
    assert len(bench.flows.by_address) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\x5f", b"\x5f\x00" + bytes(21), b"\x5e\x00" + bytes(30), b"\x5f\x20" + bytes(40)]
)
def test_a_broken_header_from_inside_is_dropped(bench: Bench, data: bytes) -> None:
    assert bench.router.down([(data, ALPHA, 0, 0)], 0) == []
    assert dict(bench.router.dropped) == {"malformed_header": 1}


def test_a_restarted_edge_learns_the_call_from_the_downlink(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    assert bench.up(rtp(1)) == []
    assert bench.down(rtp(1, ssrc=8)) == [(rtp(1, ssrc=8), CLIENT)]
    assert len(bench.up(rtp(2))) == 1
    assert {row[0] for row in bench.captured()} == {SESSION}
    bench.up(check(f"{ufrag()}:theirs"))
    assert bench.flows.by_address[CLIENT].session == SESSION


def test_replays_that_the_transceiver_answers_do_not_come_back_past_the_bound(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bound = bench.config.limits.flows_per_ufrag
    recorded = check(f"{ufrag()}:theirs")
    places = [(f"203.0.113.{n}", 4000) for n in range(4 * bound)]
    for place in places:
        bench.up(recorded, place)
    for place in places:  # to where the flows that were evicted had been, too
        bench.down(check(answer_to=recorded), client=place)
    # As many without a ufrag came back as the session may have, before those that have one named it.
    assert len(bench.flows.by_address) == 2 * bound
    assert bench.router.dropped == {"session_cap": 2 * bound}
    assert bench.down(rtp(1), client=CLIENT, session=NEXT_SESSION) != []  # another call is not affected
    bench.now_ns = int((bench.config.limits.idle_s + 1) * 1e9)
    for _ in bench.flows.sweep(bench.now_ns):
        pass
    assert bench.down(rtp(1), client=places[0]) != []


def test_a_client_that_moves_keeps_its_session(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    name = f"{ufrag()}:theirs"
    bench.up(check(name))
    bench.down(rtp(1))
    assert bench.up(rtp(1), OTHER) == []
    ((_, address),) = bench.up(check(name), OTHER)
    assert address == ALPHA
    assert len(bench.up(rtp(2), OTHER)) == 1
    assert bench.captured()[-1][0] == SESSION
    assert bench.down(rtp(2), client=OTHER) == [(rtp(2), OTHER)]


def test_a_live_flow_is_handed_over_only_when_its_client_answers_the_other_transceiver(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench.up(check(f"{ufrag()}:theirs"))
    bench.down(rtp(1))
    request = check(f"{ufrag('beta')}:theirs")
    ((_, address),) = bench.up(request)
    assert address == BETA  # the request itself goes where its ufrag says
    ((_, address),) = bench.up(rtp(2))
    assert address == ALPHA  # whoever spoofs this source with a ufrag of theirs gains nothing
    # It has a session there, too, whose answers and checks go where the client is; it gets no further by them.
    asked, never_asked = check("theirs:ours"), check("theirs:ours")
    assert bench.down(check(answer_to=request), source=BETA, session=NEXT_SESSION) != []
    assert bench.down(asked, source=BETA, session=NEXT_SESSION) == [(asked, CLIENT)]
    assert bench.down(rtp(3), source=BETA, session=NEXT_SESSION) == []
    bench.up(check(f"{ufrag('beta')}:theirs"), OTHER)
    bench.up(check(answer_to=asked), OTHER)
    bench.up(check(answer_to=never_asked))
    ((_, address),) = bench.up(rtp(3))
    assert address == ALPHA
    assert bench.captured()[-1][0] == SESSION
    assert bench.down(rtp(4), source=ALPHA) == [(rtp(4), CLIENT)]
    assert bench.router.dropped["wrong_transceiver"] == 1
    # Only the address's holder knows the transaction.
    ((_, address),) = bench.up(check(answer_to=asked))
    assert address == BETA
    bench.down(rtp(5), source=BETA, session=NEXT_SESSION)
    ((_, address),) = bench.up(rtp(6))
    assert address == BETA
    assert bench.captured()[-1][0] == NEXT_SESSION
    assert bench.down(rtp(9), source=ALPHA) == []


def test_a_new_session_on_the_same_address_is_told_apart(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench.up(check(f"{ufrag()}:theirs"))
    bench.down(rtp(1))
    request, asked = check(f"{ufrag()}:theirs"), check("theirs:ours")
    bench.up(request)
    bench.down(check(answer_to=request), session=NEXT_SESSION)
    bench.down(asked, session=NEXT_SESSION)
    bench.up(check(answer_to=asked))
    bench.down(rtp(1), session=NEXT_SESSION)
    bench.up(rtp(2))
    assert [row[0] for row in bench.captured()] == [SESSION, NEXT_SESSION, NEXT_SESSION]
    # What the old call still says to that address reaches it, and is nobody's fact.
    assert bench.down(rtp(2)) == [(rtp(2), CLIENT)]
    bench.up(rtp(3))
    assert [row[0] for row in bench.captured()][3:] == [NEXT_SESSION]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_request_with_a_forged_source_puts_no_packet_of_a_call_on_another(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes], *, restarted: bool
) -> None:
    names, forged = f"{ufrag()}:theirs", f"{ufrag()}:theirs"
    bench.up(check(forged), OTHER)  # the forger has a call of their own
    bench.down(rtp(1), client=OTHER, session=NEXT_SESSION)
    if not restarted:
        bench.up(check(names))
    bench.down(rtp(1))
    for _ in range(3):
        request, asked = check(forged), check("theirs:ours")
        assert len(bench.up(request)) == 1
        # The transceiver answers, and checks the address; the client there knows nothing of it.
        assert bench.down(check(answer_to=request), session=NEXT_SESSION) != []
        assert bench.down(asked, session=NEXT_SESSION) == [(asked, CLIENT)]
        assert bench.down(rtp(7), session=NEXT_SESSION) == [(rtp(7), CLIENT)]
        bench.up(check(answer_to=check()))
        bench.up(check(answer_to=asked), OTHER)
        assert len(bench.up(rtp(2))) == 1
        assert bench.down(rtp(2)) == [(rtp(2), CLIENT)]
        bench.up(check(names))
    assert [row[0] for row in bench.captured()] == [NEXT_SESSION, SESSION] + [SESSION, SESSION] * 3


def test_a_new_call_from_the_address_of_one_that_a_restarted_edge_learnt_of_is_told_apart(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench.down(rtp(1))  # the edge was restarted; this call ends soon
    request, asked = check(f"{ufrag()}:theirs"), check("theirs:ours")
    bench.up(request)
    bench.down(check(answer_to=request), session=NEXT_SESSION)
    bench.down(asked, session=NEXT_SESSION)
    bench.up(check(answer_to=asked))
    bench.up(rtp(2))
    assert [row[0] for row in bench.captured()] == [SESSION, NEXT_SESSION]


def test_of_a_rival_the_last_checks_only_are_remembered(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench.up(check(f"{ufrag()}:theirs"))
    bench.down(rtp(1))
    bench.up(check(f"{ufrag()}:theirs"))
    asked = [check("theirs:ours") for _ in range(100)]
    for one in asked:
        bench.down(one, session=NEXT_SESSION)
    rival = bench.flows.by_address[CLIENT].rival
    assert rival is not None
    assert list(rival.asked) == [one[8:20] for one in asked[-8:]]


def test_two_keys_are_live_during_a_rotation(config: EdgeConfig, ufrag: Make, check: Check) -> None:
    bench = Bench(dataclasses.replace(config, keys={1: bytes(range(32)), 2: bytes(32)}))
    assert bench.up(check(f"{ufrag()}:t"))
    assert bench.up(check(f"{ufrag(key=bytes(32), key_id=2)}:t"), OTHER)


def test_stun_passing_by_gives_the_round_trip_of_both_legs(bench: Bench, ufrag: Make, check: Check) -> None:
    ours = check(f"{ufrag()}:theirs")
    bench.up(ours, at_ns=1_000_000)
    bench.down(check(answer_to=ours), at_ns=3_000_000)
    theirs = check("theirs:ours")
    bench.down(theirs, at_ns=10_000_000)
    bench.up(check(answer_to=theirs), at_ns=60_000_000)
    assert [(row.session, row.leg, row.at_ns, row.rtt_ns) for row in bench.capture.legs] == [
        (SESSION, "edge_transceiver", 3_000_000, 2_000_000),
        (SESSION, "client_edge", 60_000_000, 50_000_000),
    ]


def test_telemetry_gives_way_and_voice_does_not(
    config: EdgeConfig, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    bench = Bench(dataclasses.replace(config, limits=Limits(rows=10)))
    bench.up(check(f"{ufrag()}:theirs"))
    assert sum(len(bench.up(rtp(n))) for n in range(50)) == 50
    assert len(bench.captured()) == 10
    assert bench.capture.shed["packet"] == {"full": 40}
    assert bench.capture.captured == 50


def test_ipv6_clients_are_routed_alike(bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]) -> None:
    client = ("2001:db8::7", 4000)
    ((sent, _),) = bench.up(check(f"{ufrag()}:theirs"), client)
    assert read_up(sent, [HEADER_KEY]) == (Client(*client), 28)
    assert bench.down(rtp(1), client=client) == [(rtp(1), client)]
    assert bench.down(rtp(2), client=client) == [(rtp(2), client)]
    assert bench.up(rtp(3), ("fe80::1%eth0", 1)) == []
    assert bench.up(check(f"{ufrag()}:theirs"), ("fe80::1%eth0", 1)) == []
    assert bench.router.dropped["bad_source"] == 1


def test_no_bytes_whatsoever_break_the_router(
    bench: Bench, ufrag: Make, check: Check, rtp: Callable[..., bytes]
) -> None:
    rng = random.Random(20_240_511)
    seeds = [check(f"{ufrag()}:theirs"), rtp(1), b"\x80\xc8" + bytes(26), b"\x16\xfe\xfd" + bytes(40)]
    seeds += [down_header(*CLIENT, SESSION, HEADER_KEY) + seed for seed in seeds] + [b""]
    for _ in range(5_000):
        data = bytearray(rng.choice(seeds) if rng.random() < 0.8 else rng.randbytes(rng.randrange(120)))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        mutated = bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
        source = rng.choice([CLIENT, OTHER, ALPHA, BETA])
        route = rng.choice([bench.router.up, bench.router.down])
        assert len(route([(mutated, source, 0, 0)], 0)) <= 1


def test_a_transceiver_that_moved_is_reached_and_heard_at_its_new_address_only(
    bench: Bench, ufrag: Make, check: Check
) -> None:
    moved = ("10.0.0.9", 7000)
    bench.router.know({"alph": moved, "beta": BETA})
    ((_, address),) = bench.up(check(f"{ufrag('alph')}:theirs"))
    assert address == moved
    assert bench.down(b"\x80" + 15 * b"\x00", moved) != []
    assert bench.down(b"\x80" + 15 * b"\x00", ALPHA) == []
    assert bench.router.dropped["unknown_peer"] == 1
