"""What calls live through: clients that move, edges that restart, drain or learn a new key."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from eventlog.schema import PACKET
from relay.edge import Edge, Limits
from relay.encap import Client, derive
from relay.ufrag import mint
from tests.integration.edge_tools import (
    KEY,
    PATIENCE_S,
    SESSION,
    Peer,
    World,
    check,
    connect,
    new_ufrag,
    rtp,
    stream,
    wait_for,
)


def test_flows_that_nobody_answers_or_uses_end(world: World) -> None:
    edge = world.start(Limits(unanswered_s=0.05, idle_s=0.3))
    world.client.send(check(new_ufrag()), edge.address)
    world.alpha.receive_up()
    connect(world, edge, new_ufrag(), world.another_client())
    wait_for(lambda: edge.counters().flows == 0, "both flows expired")
    assert edge.counters().flows_closed == {"unanswered": 1, "idle": 1, "evicted": 0}


async def test_a_client_that_changes_its_address_stays_in_its_session(world: World) -> None:
    edge = world.start()
    ufrag = new_ufrag()
    connect(world, edge, ufrag)
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    moved = world.another_client()
    request = check(ufrag)
    moved.send(request, edge.address)
    assert world.alpha.receive_up() == (Client(*moved.address), request)
    moved.send(rtp(3), edge.address)
    assert world.alpha.receive_up() == (Client(*moved.address), rtp(3))
    world.alpha.send_down(edge, moved.address, rtp(9, ssrc=8))
    assert moved.receive() == rtp(9, ssrc=8)
    rows = stream(await world.facts(PACKET), "edge_up")
    assert [(row["ext_seq"], row["newly_lost"], row["session_id"]) for row in rows] == [
        (1, 0, SESSION),
        (3, 1, SESSION),
    ]


async def test_a_restarted_edge_goes_on_with_the_call(world: World) -> None:
    edge = world.start()
    connect(world, edge, new_ufrag())
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    world.finish()
    again = world.start(bind=edge.address, internal_bind=edge.internal_address)
    assert again.address == edge.address
    world.alpha.send_down(again, world.client.address, rtp(5, ssrc=8))
    assert world.client.receive() == rtp(5, ssrc=8)
    world.client.send(rtp(2), again.address)
    assert world.alpha.receive_up() == (Client(*world.client.address), rtp(2))
    table = await world.facts(PACKET)
    assert [row["ext_seq"] for row in stream(table, "edge_up")] == [1, 2]
    assert [row["ext_seq"] for row in stream(table, "edge_down", ssrc=8)] == [5]


def test_a_killed_edge_that_starts_again_has_both_directions_at_once(world: World, tmp_path: Path) -> None:
    """Not even the transceiver has to speak first."""
    kept = tmp_path / "flows"
    edge = world.start(flow_map=kept)
    connect(world, edge, new_ufrag())
    world.client.send(rtp(1), edge.address)
    world.alpha.receive_up()
    wait_for(lambda: kept.exists() and kept.stat().st_size > 73, "the flow map written, with the flow in it")
    as_killed = kept.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    world.finish()
    kept.write_bytes(as_killed)
    again = world.start(flow_map=kept, bind=edge.address, internal_bind=edge.internal_address)
    world.client.send(rtp(2), again.address)
    assert world.alpha.receive_up() == (Client(*world.client.address), rtp(2))
    world.alpha.send_down(again, world.client.address, rtp(9, ssrc=8))
    assert world.client.receive() == rtp(9, ssrc=8)
    counters = again.counters()
    assert (counters.flows, counters.flows_opened, counters.dropped) == (1, 1, {})


@pytest.mark.parametrize("damage", [b"", b"\0", b"flowmap1" + bytes(8 + 73 + 16), b"x" * 500])
def test_a_damaged_flow_map_is_not_used(world: World, tmp_path: Path, damage: bytes) -> None:
    kept = tmp_path / "flows"
    kept.write_bytes(damage)
    edge = world.start(flow_map=kept)
    assert edge.counters().flows == 0
    connect(world, edge, new_ufrag())


def test_a_draining_edge_keeps_its_calls_and_takes_no_new_ones(world: World) -> None:
    edge = world.start(drain_s=PATIENCE_S)
    ufrag = new_ufrag()
    connect(world, edge, ufrag)
    world.stop.set()
    moved = world.another_client()
    wait_for(lambda: refused(world.another_client(), edge), "new calls refused")
    for n in range(20):
        world.client.send(rtp(n), edge.address)
        assert world.alpha.receive_up()[1] == rtp(n)
    connect(world, edge, ufrag, moved)  # a client of a living call that moves is no new call


def refused(stranger: Peer, edge: Edge) -> bool:
    stranger.send(check(new_ufrag("beta")), edge.address)
    return edge.counters().dropped.get("draining", 0) > 0


def test_a_draining_edge_ends_when_no_call_lives(world: World) -> None:
    world.start(drain_s=3600)
    world.finish()
    assert world.stopped_within_s < PATIENCE_S


def test_ufrag_keys_rotate_while_calls_go_on(world: World) -> None:
    """Every edge learns the new key before anyone signs with it, and drops the old one when no call has it."""
    new = secrets.token_bytes(32)
    edge = world.start(keys={1: KEY, 2: new})
    old_call, old_ufrag = world.client, new_ufrag()
    connect(world, edge, old_ufrag)
    new_call = world.another_client()
    request = check(mint("alph", new, 2, secrets.token_bytes(5)))
    new_call.send(request, edge.address)
    assert world.alpha.receive_up() == (Client(*new_call.address), request)
    for n in range(200):
        world.alpha.header_key = derive(new if n % 2 else KEY)
        for client in (old_call, new_call):
            client.send(rtp(n), edge.address)
            assert world.alpha.receive_up() == (Client(*client.address), rtp(n))
            world.alpha.send_down(edge, client.address, rtp(n, ssrc=8))
            assert client.receive() == rtp(n, ssrc=8)
        if n % 50 == 0:
            old_call.send(check(old_ufrag), edge.address)
            world.alpha.receive_up()
    assert edge.counters().dropped == {}
