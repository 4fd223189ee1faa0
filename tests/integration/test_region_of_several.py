"""A region with two edges and two transceivers: calls are spread, every way carries voice, a loss stays where it is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import aioice.ice
import pytest

from tests.integration.edge_tools import Peer, check, new_ufrag
from tests.integration.region_tools import REGION, Region, region
from tests.integration.transceiver_tools import Client, facts_in, question, until

KEY, KEY_ID = secrets.token_bytes(32), 1
EDGES, TRANSCEIVERS = ("north-1", "north-2"), ("one1", "two2")
SECOND = 50
"""Packets of 20 ms."""

Way = tuple[str, str]


async def open_up(at: Region) -> None:
    for code in TRANSCEIVERS:
        await at.add_transceiver(code, KEY_ID, KEY)
    for name in EDGES:
        await at.add_edge(name, {KEY_ID: KEY})


async def call_by_all(at: Region) -> dict[Way, Client]:
    """Twice by each transceiver, without a wish: calls by the edge that each was sent to."""
    calls = {}
    for code in TRANSCEIVERS:
        for _ in EDGES:
            client = await at.call(code)
            calls[at.edge_of(client), code] = client
    return calls


async def speaks_and_hears(client: Client) -> None:
    """The agent says what it was told: voice came through both ways."""
    before = sum(level > -40.0 for level in client.levels)
    await client.microphone.say(question(), "normal")
    await until(lambda: sum(level > -40.0 for level in client.levels) >= before + 10)


async def seen(done: Callable[[], bool]) -> None:
    """Wait for what probes bring about; a busy edge sends them when it has nothing else to do."""
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - others bring it about, and tell nobody
            await asyncio.sleep(0.02)


async def goes_on(client: Client) -> None:
    before = len(client.packets)
    await until(lambda: len(client.packets) > before + SECOND)
    assert client.peer.connectionState == "connected"


async def test_calls_are_spread_and_every_way_carries_voice(tmp_path: Path) -> None:
    async with region(tmp_path) as at:
        await open_up(at)
        calls = await call_by_all(at)
        assert set(calls) == {(edge, code) for edge in EDGES for code in TRANSCEIVERS}
        for client in calls.values():
            await speaks_and_hears(client)
        assert [edge.edge.counters().flows for edge in at.edges.values()] == [2, 2]
        assert [transceiver.sessions for transceiver in at.transceivers.values()] == [2, 2]
        for client in calls.values():
            await client.close()
    for client in calls.values():
        rows = await facts_in(at.log, "packet", client.session_id)
        assert {row["tap"] for row in rows} == {"edge_up", "edge_down", "transceiver_in", "transceiver_out"}
        assert {row["region"] for row in rows} == {REGION}


async def test_without_one_edge_calls_enter_by_the_other(tmp_path: Path) -> None:
    """Its calls end, as their answers named its address; who calls again is served, and others notice nothing."""
    async with region(tmp_path) as at:
        await open_up(at)
        calls = await call_by_all(at)
        transceivers = at.transceivers.values()
        await seen(lambda: all(set(one._demux.probed_ns) == set(EDGES) for one in transceivers))
        at.edges["north-1"].stop()
        await seen(lambda: all(one.silent_edges == {"north-1"} for one in transceivers))
        for (edge, code), client in list(calls.items()):
            if edge == "north-1":
                await client.close()
                calls[edge, code] = again = await at.call(code)
                assert at.edge_of(again) == "north-2"
                await speaks_and_hears(again)
            else:
                await goes_on(client)
        wished = await at.call("one1", edge="north-1")
        assert at.edge_of(wished) == "north-2"
        # It comes back: so do calls, as it is the less busy one.
        at.edges["north-1"].start({KEY_ID: KEY})
        await seen(lambda: not at.transceivers["one1"].silent_edges)
        back = await at.call("one1")
        assert at.edge_of(back) == "north-1"
        for client in (*calls.values(), wished, back):
            await client.close()


async def test_calls_pass_by_an_edge_that_drains(tmp_path: Path) -> None:
    """It has fewer calls with every one that ends, and must not get new ones for that: it would refuse them."""
    async with region(tmp_path) as at:
        await open_up(at)
        edge, transceiver = at.edges["north-1"], at.transceivers["one1"]
        await asyncio.to_thread(edge.stop)
        await asyncio.to_thread(edge.start, {KEY_ID: KEY}, 600.0)
        lives, *others = [await at.call("one1", edge=name) for name in ("north-1", "north-2", "north-2")]
        edge.leave()
        await seen(lambda: transceiver.refusing_edges == {"north-1"})
        others += [await at.call("one1"), await at.call("one1", edge="north-1")]
        assert [at.edge_of(client) for client in others] == ["north-2"] * 4
        await goes_on(lives)
        edge.edge.hurry()
        for client in (lives, *others):
            await client.close()


async def test_a_call_that_loses_its_way_says_whether_edge_or_client_was_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 1.0)  # six checks still take longer than an edge's silence
    async with region(tmp_path) as at:
        await open_up(at)
        (transceiver, *_) = at.transceivers.values()
        await seen(lambda: set(transceiver._demux.probed_ns) == set(EDGES))
        left, gone = [await at.call(TRANSCEIVERS[0], edge=name) for name in EDGES]
        gone.dtls.transport._connection._nominated[1].protocol.transport.close()  # as of a phone that lost its network
        at.edges["north-1"].stop()
        await seen(lambda: transceiver.sessions == 0)
        for client in (left, gone):
            await client.close()
    reasons = []
    for client in (left, gone):
        steps = await facts_in(at.log, "session", client.session_id)
        reasons += [(step["attributes"], step["reason"]) for step in steps if step["step"] == "closed"]
    assert [reason for _, reason in reasons] == ["edge_lost", "consent_expired"]
    assert all(dict(attributes)["who"] == "network" for attributes, _ in reasons)


@pytest.mark.parametrize("lost", TRANSCEIVERS)
async def test_without_one_transceiver_only_its_calls_are_refused(tmp_path: Path, lost: str) -> None:
    (kept,) = set(TRANSCEIVERS) - {lost}
    async with region(tmp_path) as at:
        await open_up(at)
        calls = await call_by_all(at)
        await at.transceivers[lost].aclose()
        stranger = Peer()
        with stranger.socket:
            for name in EDGES:
                stranger.send(check(new_ufrag(lost, KEY, KEY_ID)), at.edges[name].address.advertised)
                client = calls[name, kept]
                await goes_on(client)
                another = await at.call(kept, edge=name)
                assert at.edge_of(another) == name
                await speaks_and_hears(another)
                await another.close()
            assert stranger.pending() == []
        with pytest.raises(RuntimeError):
            await at.call(lost)
        for client in calls.values():
            await client.close()
    for (_, code), client in calls.items():
        rows = await facts_in(at.log, "packet", client.session_id)
        lost_packets = sum(row["newly_lost"] for row in rows if row["tap"] in {"transceiver_in", "edge_down"})
        assert code == lost or lost_packets == 0
