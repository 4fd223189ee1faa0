"""The nearest region: edges at different distances, measured by a caller before it calls."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from relay.app import create_app
from relay.caller.regions import Way, nearest
from relay.edge import Edge, EdgeConfig
from relay.regions import CLIENTS_MAX, KEPT_S, Board, ordered, read_report
from relay.transceiver import EdgeAddress
from tests.integration.transceiver_tools import KEY, LOOPBACK, PATIENCE_S, Client, World, world

Address = tuple[str, int]


class Far(asyncio.DatagramProtocol):
    """The way to an edge: every datagram takes its time, both ways."""

    def __init__(self, edge: Address, delay_s: float) -> None:
        self._edge = edge
        self._delay_s = delay_s
        self._clients: dict[Address, asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.address: Address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._on, data, addr)

    def _on(self, data: bytes, client: Address) -> None:
        task = asyncio.ensure_future(self._forward(data, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: bytes, client: Address) -> None:
        loop = asyncio.get_running_loop()
        if client not in self._clients:
            back = _Back(lambda answer: loop.call_later(self._delay_s, self.transport.sendto, answer, client))
            self._clients[client], _ = await loop.create_datagram_endpoint(lambda: back, remote_addr=self._edge)
        self._clients[client].sendto(data)

    def close(self) -> None:
        for transport in [*self._clients.values(), self.transport]:
            transport.close()


class _Back(asyncio.DatagramProtocol):
    def __init__(self, take: Any) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        del addr
        self._take(data)


@asynccontextmanager
async def ways(at: World, delays_s: dict[str, float | None]) -> AsyncIterator[dict[str, Edge]]:
    """Add edges, each so far away; None: nobody answers there."""
    edges, fars, stop = {}, [], threading.Event()
    threads = []
    for name, delay_s in delays_s.items():
        region = name.rpartition("-")[0]
        edge = Edge(
            EdgeConfig(
                name=name,
                region=region,
                bind=(LOOPBACK, 0),
                internal_bind=(LOOPBACK, 0),
                transceivers={"test": at.transceiver.address},
                keys={1: KEY},
                host_id="host",
            ),
            at.emitter,
        )
        edges[name] = edge
        threads.append(threading.Thread(target=edge.run, args=(stop,), daemon=True))
        threads[-1].start()
        advertised = edge.address
        if delay_s is not None:
            made = functools.partial(Far, edge.address, delay_s)
            _, far = await asyncio.get_running_loop().create_datagram_endpoint(made, local_addr=(LOOPBACK, 0))
            fars.append(far)
            advertised = far.address
        else:
            advertised = edge.internal_address  # takes no client's datagram
        at.transceiver.add_edge(EdgeAddress(name, region, advertised, edge.internal_address))
    try:
        yield edges
    finally:
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, PATIENCE_S)
        for far in fars:
            far.close()


@asynccontextmanager
async def signalling(at: World) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(at.transceiver), host=LOOPBACK, port=0, log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - another task brings it about
        await asyncio.sleep(0.01)
    try:
        yield f"http://{LOOPBACK}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def test_a_call_to_auto_enters_by_the_nearest_edge(tmp_path: Path) -> None:
    delays = {"far-1": 0.15, "near-1": 0.03, "dead-1": None, "middle-1": 0.08}
    async with world(tmp_path) as at, ways(at, delays), signalling(at) as url:
        at.transceiver._edges.pop("edge-1")  # the world's own, next door
        found = await nearest(url)
        assert [way.edge for way in found] == ["near-1", "middle-1", "far-1", "dead-1"]
        for way in found[:3]:
            assert way.rtt_ms is not None
            assert way.rtt_ms >= 2_000 * (delays[way.edge] or 0)
        assert found[3] == Way("dead-1", "dead", None)
        client = Client()
        async with httpx.AsyncClient(base_url=url) as http:
            answer = await http.post(
                "/v1/realtime/calls",
                params={"region": "auto"},
                content=await client.offer(),
                headers={"content-type": "application/sdp"},
            )
        await client.accept(answer.text)
        await client.connected()
        await client.close()
    offered = next(row for row in await at.facts("session") if row["step"] == "offered")
    attributes = dict(offered["attributes"])
    assert (offered["region"], attributes["edge"], attributes["transceiver_region"]) == ("near", "near-1", "core")
    assert attributes["codec"] == "opus/48000/2"  # aiortc names no parameters


async def test_calls_are_spread_over_the_edges_of_a_region(tmp_path: Path) -> None:
    async with world(tmp_path) as at, ways(at, {"south-1": 0.0, "south-2": 0.0}):
        for _ in range(4):
            await at.transceiver.answer(await Client().offer(), region="south")
        assert sorted(session.edge.name for session in at.transceiver._sessions.values()) == [
            "south-1",
            "south-1",
            "south-2",
            "south-2",
        ]


@pytest.mark.parametrize("prefer", [[], ["gone-1", "left-1", "south-1", "east-1"]])
async def test_a_call_to_wherever_passes_by_regions_whose_edges_take_none(prefer: list[str], tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        at.transceiver._edges.clear()
        for name in ("gone-1", "left-1", "south-1", "east-1"):
            at.transceiver.add_edge(EdgeAddress(name, name[:-2], (LOOPBACK, 1), (LOOPBACK, ord(name[0]))))
        at.transceiver._demux.probed_ns["gone-1"] = 0
        at.transceiver._demux.refusing.add("left-1")
        await at.transceiver.answer(await Client().offer(), prefer=prefer)
        await at.transceiver.answer(await Client().offer(), prefer=prefer, region="gone")  # there is no other of it
        entered = [session.edge.name for session in at.transceiver._sessions.values()]
    assert entered == ["south-1", "gone-1"]


EDGES = [EdgeAddress(name, name[0], ("192.0.2.1", 1), ("10.0.0.1", 2)) for name in ("a1", "b1", "b2", "c1")]


def names(rtts: dict[str, float | None], hint: str | None = None) -> list[str]:
    return [edge.name for edge in ordered(EDGES, rtts, hint)]


def test_measured_first_then_hinted_then_declared_and_silent_last() -> None:
    assert names({}) == ["a1", "b1", "b2", "c1"]
    assert names({}, "b") == ["b1", "b2", "a1", "c1"]
    assert names({"c1": 20.0, "b1": 5.0}) == ["b1", "c1", "a1", "b2"]
    assert names({"c1": 20.0, "a1": None}, "a") == ["c1", "b1", "b2", "a1"]


def test_measurements_are_kept_for_a_while_and_for_so_many() -> None:
    board = Board()
    board.report("192.0.2.1", {"a1": 5.0}, 100.0)
    assert board.rtts("192.0.2.1", 100.0 + KEPT_S) == {"a1": 5.0}
    assert board.rtts("192.0.2.1", 101.0 + KEPT_S) == {}
    for n in range(CLIENTS_MAX):
        board.report(str(n), {}, 200.0)
    assert board.rtts("192.0.2.1", 200.0) == {}


def test_only_round_trips_to_known_edges_are_taken() -> None:
    assert read_report(b'{"rtt_ms": {"a1": 3, "b1": null, "x": 9}}', ["a1", "b1", "c1"]) == {"a1": 3.0, "b1": None}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"rtt_ms": 3}', b'{"rtt_ms": {"a1": -1}}', b'{"rtt_ms": {"a1": "3"}}', b"[" * 16_000]
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_report(body, ["a1"])
