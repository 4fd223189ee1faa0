"""The ufrag key is exchanged while calls speak and others come: none loses a packet, none is turned away."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from pathlib import Path

from tests.integration.edge_tools import Peer, check, new_ufrag
from tests.integration.region_tools import Region, region
from tests.integration.transceiver_tools import Client, facts_in, until

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
OLD_ID, NEW_ID = 1, 2
SECOND = 50
"""Packets of 20 ms."""


class Callers:
    """Calls one after another, each by the transceiver that takes calls then."""

    def __init__(self, at: Region, code: str) -> None:
        self.code = code
        self.calls: list[tuple[str, Client]] = []
        self._region = at
        self._enough = asyncio.Event()
        self._task = asyncio.create_task(self._come())

    async def _come(self) -> None:
        while not self._enough.is_set():
            code = self.code
            self.calls.append((code, await self._region.call(code)))

    async def end(self) -> list[tuple[str, Client]]:
        """Let the last one be put through; every one must have been."""
        self._enough.set()
        await self._task
        return self.calls


async def heard_more(clients: list[Client], packets: int) -> None:
    before = [len(client.packets) for client in clients]
    await until(lambda: all(len(client.packets) >= had + packets for client, had in zip(clients, before, strict=True)))


def refused(edge: Region, reason: str) -> int:
    return edge.edges["north-1"].edge.counters().dropped.get(reason, 0)


async def test_keys_are_exchanged_under_load(tmp_path: Path) -> None:
    async with region(tmp_path) as at:
        # Every role has learnt the new key, and signs with the old one.
        await at.add_transceiver("one1", OLD_ID, OLD, NEW)
        edge = await at.add_edge("north-1", {OLD_ID: OLD, NEW_ID: NEW})
        old_calls = [await at.call("one1") for _ in range(2)]
        callers = Callers(at, "one1")
        await until(lambda: len(callers.calls) >= 1)
        # Swapped: the edge first, then a transceiver that signs with the new key takes the calls.
        await edge.restart({NEW_ID: NEW, OLD_ID: OLD})
        so_far = len(callers.calls)
        await until(lambda: len(callers.calls) > so_far)
        await at.add_transceiver("two2", NEW_ID, NEW, OLD)
        callers.code = "two2"
        await until(lambda: callers.calls[-1][0] == "two2")
        came = await callers.end()
        everybody = old_calls + [client for _, client in came]
        await heard_more(everybody, SECOND)
        assert refused(at, "ufrag_unknown_key") == 0
        # The old calls end, and the old key is dropped while the new ones speak.
        stay = [client for code, client in came if code == "two2"]
        for client in everybody:
            if client not in stay:
                await client.close()
        late = Callers(at, "two2")
        await edge.restart({NEW_ID: NEW})
        await until(lambda: len(late.calls) >= 1)
        stay += [client for _, client in await late.end()]
        await heard_more(stay, SECOND)
        stranger = Peer()
        with stranger.socket:
            stranger.send(check(new_ufrag("one1", OLD, OLD_ID)), edge.address.advertised)
            await until(lambda: refused(at, "ufrag_unknown_key") == 1)
        everybody += [client for client in stay if client not in everybody]
        for client in stay:
            await client.close()
        problems = {code: dict(one.counters.drops) for code, one in at.transceivers.items()}
    assert not any("bad_header" in drops for drops in problems.values()), problems
    for client in everybody:
        assert client.session_id is not None
        rows = await facts_in(at.log, "packet", client.session_id)
        for tap in ("transceiver_in", "edge_up", "edge_down"):
            assert sum(row["newly_lost"] for row in rows if row["tap"] == tap) == 0
        spoken = sorted(row["ext_seq"] for row in rows if row["tap"] == "transceiver_in")
        assert spoken == list(range(spoken[0], spoken[0] + len(spoken)))
        heard = [header.sequence_number for _, header, _ in client.packets]
        assert [(b - a) % 65_536 for a, b in itertools.pairwise(heard)] == [1] * (len(heard) - 1)
