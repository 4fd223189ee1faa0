"""The edge on real loopback sockets, its facts read back from a real log."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence

import pytest

from eventlog.schema import LEG, PACKET, PACKET_TIME_NS
from relay.edge import Counters, Edge, Limits
from relay.encap import Client, down_header
from tests.integration.edge_tools import (
    HEADER_KEY,
    LOOPBACK,
    PATIENCE_S,
    SESSION,
    Peer,
    World,
    check,
    connect,
    dropped,
    new_ufrag,
    rtp,
    stream,
    wait_for,
)
from voice.sequence import StreamStats


async def test_a_call_passes_both_ways_and_every_packet_is_a_fact(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    for n in range(20):
        world.client.send(rtp(n, level=0x80 | n), edge.address)
        assert world.alpha.receive_up() == (Client(*world.client.address), rtp(n, level=0x80 | n))
        world.alpha.send_down(edge, world.client.address, rtp(n + 500, ssrc=8))
        assert world.client.receive() == rtp(n + 500, ssrc=8)
    table = await world.facts(PACKET)
    up, down = stream(table, "edge_up"), stream(table, "edge_down", ssrc=8)
    assert [row["ext_seq"] for row in up] == list(range(20))
    assert [row["ext_seq"] for row in down] == list(range(500, 520))
    assert [row["audio_level_dbov"] for row in up] == [-n for n in range(20)]
    assert all(row["voice_activity"] for row in up)
    assert all(row["audio_level_dbov"] is None and row["voice_activity"] is None for row in down)
    assert [row["transit_delta_us"] is None for row in up] == [True] + [False] * 19
    for row in up + down:
        assert (row["session_id"], row["region"], row["host_id"]) == (SESSION, "test", "host-1")
        assert (row["payload_type"], row["marker"], row["size_bytes"], row["dscp"]) == (111, False, 40, 0)
        assert (row["newly_lost"], row["reordered"], row["duplicate"]) == (0, False, False)
    assert edge.counters().captured == 40
    assert world.accounts["packet"].emitted == 40
    assert world.stopped_within_s < PATIENCE_S


async def test_facts_stay_with_the_call_whatever_requests_are_forged_and_go_with_its_client(world: World) -> None:
    """Requests for a call of one's own at the same transceiver, from another call's address: forged, then its own."""
    edge = world.start()
    connect(world, edge, new_ufrag())
    client, other_session = world.client, bytes(range(16, 32))
    header = down_header(*client.address, other_session, HEADER_KEY)
    name = new_ufrag()
    asked = b""
    for seq in range(5):
        request, asked = check(name), check()
        client.send(request, edge.address)
        assert world.alpha.receive_up()[1] == request
        for data in (check(answer_to=request), asked):
            world.alpha.send(header + data, edge.internal_address)
            assert client.receive() == data
        client.send(rtp(seq), edge.address)
        assert world.alpha.receive_up()[1] == rtp(seq)
        world.alpha.send_down(edge, client.address, rtp(seq, ssrc=8))
        assert client.receive() == rtp(seq, ssrc=8)
    client.send(check(answer_to=asked), edge.address)  # it was the client itself
    world.alpha.receive_up()
    for seq in range(5, 10):
        client.send(rtp(seq), edge.address)
        assert world.alpha.receive_up()[1] == rtp(seq)
        world.alpha.send(header + rtp(seq, ssrc=8), edge.internal_address)
        assert client.receive() == rtp(seq, ssrc=8)
    table = await world.facts(PACKET)
    for rows in (stream(table, "edge_up"), stream(table, "edge_down", ssrc=8)):
        sessions = {row["ext_seq"]: row["session_id"] for row in rows}
        assert sessions == {seq: SESSION if seq < 5 else other_session for seq in range(10)}


async def test_gaps_duplicates_and_reordering_are_measured_as_they_were(world: World) -> None:
    """Also across the wrap of the sequence number and over several flushes."""
    rng = random.Random(7)
    sent = list(range(65_400, 65_800))
    order = [seq for seq in sent if seq == 65_400 or rng.random() > 0.1]
    for _ in range(30):
        n = rng.randrange(1, len(order) - 1)
        order[n], order[n + 1] = order[n + 1], order[n]
    for _ in range(20):
        n = rng.randrange(len(order))
        order.insert(n + 1, order[n])
    edge = world.start(Limits(flush_s=0.01))
    connect(world, edge, new_ufrag())
    for seq in order:
        world.client.send(rtp(seq), edge.address)
        world.alpha.receive_up()
    rows = stream(await world.facts(PACKET), "edge_up")
    reference = StreamStats()
    for row, seq in zip(rows, order, strict=True):
        at_ns = row["observed_ns"].value
        arrival = reference.receive(seq & 0xFFFF, seq * 960 % 2**32, at_ns)
        assert {name: row[name] for name in ("ext_seq", "newly_lost", "reordered", "duplicate")} == {
            "ext_seq": seq,
            "newly_lost": arrival.newly_lost,
            "reordered": arrival.reordered,
            "duplicate": arrival.duplicate,
        }
        # Made before the times were cut: rounded, it is off by half a step at most, the reference by less than a whole
        # one. Both are whole steps, so they differ by one or not at all.
        assert (row["transit_delta_us"] is None) == (arrival.transit_delta_us is None)
        assert abs((row["transit_delta_us"] or 0) - (arrival.transit_delta_us or 0)) <= PACKET_TIME_NS / 1000
    expected = max(order) - min(order) + 1
    assert sum(row["newly_lost"] for row in rows) == expected - len(set(order))
    assert sum(row["duplicate"] for row in rows) == len(order) - len(set(order))


async def test_receive_times_are_the_kernels_and_dscp_is_what_came(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    world.client.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 46 << 2)
    before_ns = time.time_ns()
    world.client.send(rtp(1), edge.address)
    after_ns = time.time_ns()
    world.alpha.receive_up()
    (row,) = stream(await world.facts(PACKET), "edge_up")
    assert row["dscp"] == 46
    # The kernel stamps while sendto runs; both clocks are the system's.
    assert before_ns - 1_000_000 <= row["observed_ns"].value <= after_ns + 1_000_000


def test_voice_leaves_marked_expedited(world: World) -> None:
    edge = world.start()
    for peer in (world.alpha, world.client):
        peer.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    connect(world, edge, new_ufrag())
    world.client.send(rtp(1), edge.address)
    _, control, _, _ = world.alpha.socket.recvmsg(2048, 64)
    assert control[0][2] == b"\xb8"
    world.alpha.send_down(edge, world.client.address, rtp(1))
    _, control, _, _ = world.client.socket.recvmsg(2048, 64)
    assert control[0][2] == b"\xb8"


def test_unverified_traffic_is_neither_forwarded_nor_answered(world: World) -> None:
    edge = world.start()
    stranger = world.another_client()
    attempts = [
        b"",
        rtp(1),
        b"\x80\xc8" + bytes(26),
        b"\x16\xfe\xfd" + bytes(60),
        b"\x40\x00\x00\x04abcd",
        check(),
        check("abcd"),
        check(new_ufrag(key=bytes(32))),
        check(new_ufrag("gamm")),
        check(answer_to=check()),
        down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(1),
        bytes(1400),
    ]
    for data in attempts:
        stranger.send(data, edge.address)
    wait_for(lambda: dropped(edge) == len(attempts), "all counted as dropped")
    counters = edge.counters()
    assert (counters.flows, counters.forwarded_up, counters.forwarded_down) == (0, 0, 0)
    assert counters.dropped["ufrag_bad_mac"] == 1
    # A verified request sent last comes first: nothing went out before it.
    connect(world, edge, new_ufrag())
    assert [peer.pending() for peer in (stranger, world.alpha, world.beta)] == [[], [], []]


def test_only_allow_listed_transceivers_may_send_down(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    outsider = world.another_client()
    outsider.send(down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(1), edge.internal_address)
    wait_for(lambda: edge.counters().dropped.get("unknown_peer") == 1, "the outsider counted")
    world.beta.send_down(edge, world.client.address, rtp(2))
    wait_for(lambda: edge.counters().dropped.get("wrong_transceiver") == 1, "the wrong transceiver counted")
    world.alpha.send_down(edge, world.client.address, rtp(3))
    assert world.client.receive() == rtp(3)


def test_flow_caps_hold(world: World) -> None:
    edge = world.start(Limits(flows_per_source=2))
    connect(world, edge, new_ufrag())
    connect(world, edge, new_ufrag(), world.another_client())
    world.another_client().send(check(new_ufrag()), edge.address)
    wait_for(lambda: edge.counters().dropped.get("source_cap") == 1, "the third flow refused")
    assert edge.counters().flows == 2


async def test_packets_before_the_session_is_known_wait_for_it(world: World) -> None:
    edge = world.start(Limits(flush_s=0.01))
    world.client.send(check(new_ufrag()), edge.address)
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    world.alpha.receive_up()
    world.alpha.send_down(edge, world.client.address, rtp(1, ssrc=8))
    world.client.receive()
    assert [row["session_id"] for row in stream(await world.facts(PACKET), "edge_up")] == [SESSION]
    assert edge.counters().shed == {}


async def test_packets_of_no_known_session_are_shed_and_counted(world: World) -> None:
    edge = world.start(Limits(flush_s=0.01, waiting_s=0.02))
    world.client.send(check(new_ufrag()), edge.address)
    world.client.send(rtp(1), edge.address)
    wait_for(lambda: edge.counters().shed == {"packet": {"no_session": 1}}, "the row shed")
    assert (await world.facts(PACKET)).num_rows == 0


async def test_voice_passes_when_telemetry_is_full(world: World) -> None:
    edge = world.start(Limits(rows=8, flush_s=60))
    connect(world, edge, new_ufrag())
    for n in range(50):
        world.client.send(rtp(n), edge.address)
        assert world.alpha.receive_up()[1] == rtp(n)
    counters = edge.counters()
    assert counters.captured == 50
    assert counters.shed == {"packet": {"full": 42}}
    rows = stream(await world.facts(PACKET), "edge_up")
    assert len(rows) == 8


def test_every_packet_is_accounted_for_whenever_one_looks(world: World) -> None:
    edge = world.start(Limits(flush_s=0.01, late_s=60.0))
    connect(world, edge, new_ufrag())

    def whole(now: Counters) -> bool:
        shed = sum(now.shed.get("packet", {}).values())
        return now.captured == now.emitted["packet"] + now.thinned + now.waiting + shed

    for n in range(600):
        world.client.send(
            rtp(n, ssrc=n % 40), edge.address
        )  # some are of more streams than a session may have at a tap
        assert all(whole(edge.counters()) for _ in range(20))
    wait_for(lambda: edge.counters().captured == 600, "all seen")
    world.finish()
    assert whole(edge.counters())
    assert edge.counters().waiting == 0
    assert edge.counters().shed["packet"]["streams"] > 0


async def test_whoever_has_a_flow_cannot_make_streams_without_end(world: World) -> None:
    edge = world.start(Limits(streams_per_tap=4))
    connect(world, edge, new_ufrag())
    for ssrc in range(20):
        world.client.send(rtp(1, ssrc=ssrc), edge.address)
        world.alpha.receive_up()
    table = await world.facts(PACKET)
    assert len(set(table["stream"].to_pylist())) == 4
    assert edge.counters().shed == {"packet": {"streams": 16}}
    assert world.accounts["packet"].shed == {"streams": 16}


async def test_stun_gives_the_round_trip_of_both_legs(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    request = check("client")
    world.alpha.send_down(edge, world.client.address, request)
    assert world.client.receive() == request
    world.client.send(check(answer_to=request), edge.address)
    world.alpha.receive_up()
    rows = (await world.facts(LEG)).to_pylist()
    assert [(row["leg"], row["method"], row["session_id"]) for row in rows] == [
        ("edge_transceiver", "stun", SESSION),
        ("client_edge", "stun", SESSION),
    ]
    assert all(row["rtt_us"] < PATIENCE_S * 1e6 for row in rows)


def test_garbage_never_stops_the_loop(world: World) -> None:
    edge = world.start()
    ufrag = new_ufrag()
    connect(world, edge, ufrag)
    stranger = world.another_client()
    rng = random.Random(3)
    seeds: Sequence[bytes] = [
        check(ufrag),
        rtp(1, level=3),
        b"\x80\xc8" + bytes(26),
        down_header(*world.client.address, SESSION, HEADER_KEY) + rtp(2),
        down_header("2001:db8::1", 4, SESSION, HEADER_KEY) + rtp(2),
    ]
    for _ in range(1_500):
        data = bytearray(rng.choice(seeds) if rng.random() < 0.7 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(1, 5)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(len(data) + 1)])
        rng.choice([world.client, stranger]).send(cut, edge.address)
        world.alpha.send(cut, edge.internal_address)
    world.alpha.pending()
    world.client.pending()
    marker = rtp(4_242, ssrc=99)
    world.client.send(marker, edge.address)
    while world.alpha.receive_up()[1] != marker:
        pass
    assert edge.counters().dropped.get("telemetry_error") is None


def test_ipv6_works_alike(world: World) -> None:
    edge = world.start(bind=("::1", 0))
    client = Peer("::1")
    world.peers.append(client)
    connect(world, edge, new_ufrag(), client)
    client.send(rtp(1), edge.address)
    assert world.alpha.receive_up() == (Client("::1", client.address[1]), rtp(1))


async def test_ipv4_clients_of_an_ipv6_socket_are_marked_and_read_alike(world: World) -> None:
    edge = world.start(bind=("::", 0))
    address, mapped = (LOOPBACK, edge.address[1]), (f"::ffff:{LOOPBACK}", world.client.address[1])
    for option, value in ((socket.IP_RECVTOS, 1), (socket.IP_TOS, 46 << 2)):
        world.client.socket.setsockopt(socket.IPPROTO_IP, option, value)
    world.client.send(check(new_ufrag()), address)
    world.alpha.receive_up()
    world.alpha.send_down(edge, mapped, rtp(1))
    data, control, _, _ = world.client.socket.recvmsg(2048, 64)
    assert (data, control[0][2]) == (rtp(1), b"\xb8")
    world.client.send(rtp(1), address)
    world.alpha.receive_up()
    (row,) = stream(await world.facts(PACKET), "edge_up")
    assert row["dscp"] == 46


def test_a_taken_port_is_named(world: World) -> None:
    edge = world.start()
    with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {edge.address[1]}"):
        Edge(world.config(bind=edge.address), world.emitter)
