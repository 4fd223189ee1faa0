"""A client goes from one network to another in mid-call, as a phone that leaves the Wi-Fi: the call goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tests.integration.test_abuse_call import captured_request
from tests.integration.transceiver_tools import LOOPBACK, Client, until, world

SECOND = 50
"""Packets of 20 ms."""
RECOVERED_NS = 1_000_000_000


class Network(asyncio.DatagramProtocol):
    """Between a client and an edge, which sees the network's address and gets to see another when it changes."""

    def __init__(self, edge: tuple[str, int]) -> None:
        self._edge = edge
        self._client: tuple[str, int] | None = None
        self._outside: asyncio.DatagramTransport | None = None

    async def open(self) -> tuple[str, int]:
        """Return where the client finds its edge."""
        self._inside, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=(LOOPBACK, 0)
        )
        await self.change()
        host, port = self._inside.get_extra_info("sockname")
        return host, port

    async def change(self) -> None:
        """Be another network: what still comes to the old one is lost."""
        if self._outside is not None:
            self._outside.close()
        self._outside, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Outside(self), local_addr=(LOOPBACK, 0)
        )

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._client = addr
        self.up(data)

    def up(self, data: bytes) -> None:
        if self._outside is not None:
            self._outside.sendto(data, self._edge)

    def down(self, data: bytes) -> None:
        if self._client is not None:
            self._inside.sendto(data, self._client)

    def close(self) -> None:
        self._inside.close()
        if self._outside is not None:
            self._outside.close()


class _Outside(asyncio.DatagramProtocol):
    def __init__(self, network: Network) -> None:
        self._network = network

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del addr
        self._network.down(data)


def longest_gap(times_ns: Iterable[int]) -> int:
    return max(later - earlier for earlier, later in pairwise(times_ns))


async def test_both_directions_are_back_within_a_second_and_the_gap_is_in_the_facts(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        network = Network(at.edge.address)
        host, port = await network.open()
        client = Client()
        answer = await at.transceiver.answer(await client.offer(), region="north")
        await client.accept(answer.sdp.replace(f"{at.edge.address[0]} {at.edge.address[1]}", f"{host} {port}"))
        await client.connected()
        await until(lambda: len(client.packets) > SECOND)
        await network.change()
        # What is said before the client checks its new way gets nowhere.
        await until(lambda: at.edge.counters().dropped.get("unknown_source", 0) > 2)
        network.up(captured_request(client))
        checked_ns, before = time.time_ns(), len(client.packets)
        await until(lambda: len(client.packets) > before + SECOND)
        assert client.peer.connectionState == "connected"
        assert at.transceiver.sessions == 1
        await client.close()
        network.close()
    assert client.packets[before][0] - checked_ns < RECOVERED_NS
    rows = await at.facts("packet", answer.session_id)
    for tap in ("edge_up", "transceiver_in"):
        mine = [row for row in rows if row["tap"] == tap]
        assert len({row["stream"] for row in mine}) == 1
        assert longest_gap(row["observed_ns"] for row in mine) < RECOVERED_NS
        numbers = [row["ext_seq"] for row in mine]
        lost = sum(row["newly_lost"] for row in mine)
        assert lost == max(numbers) - min(numbers) + 1 - len(set(numbers)) > 0
