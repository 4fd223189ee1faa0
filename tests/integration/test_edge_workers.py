"""An edge of two workers: every client at one of them, every fact once, and the death of one is nobody else's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventlog.audit import audit
from eventlog.cloudevents import parse
from eventlog.port import TopicPartition
from eventlog.schema import PACKET
from eventlog.sqlite import SqliteEventLog
from relay.edge.workers import WORKERS_MAX, open_sockets, worker_of
from relay.encap import UP, derive, down_header, read_up
from relay.encap import Client as ClientAddress
from relay.ufrag import key_id_of
from sidetone.edge_workers import Workers
from sidetone.settings import Settings, SettingsError, TransceiverSetting
from tests.integration.edge_tools import LEVEL_ID, Peer, check, new_ufrag, rtp, wait_for
from tests.integration.role_tools import call, packets, ready, role
from tests.integration.stack_tools import command, gone_within
from tests.integration.transceiver_tools import until
from tests.integration.worker_tools import WORKERS, pids, settings_with_workers, shown, worker_of_call

SECOND = 50
"""Packets of 20 ms."""
HOSTS, PER_HOST = 4, 30
PACKETS = 25
UP_SSRC, DOWN_SSRC = 7, 8
PARTITIONS = 4


class Flow(Peer):
    """A client with a call of its own, at an address of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"127.0.0.{1 + number % HOSTS}")
        self.session = (number + 1).to_bytes(16, "big")  # zeros would be no session


@contextmanager
def edge_alone(settings: Settings, transceiver: Peer) -> Iterator[tuple[Settings, subprocess.Popen[bytes]]]:
    """Run the first edge with a transceiver that is a plain socket."""
    host, port = transceiver.address
    settings = settings.model_copy(
        update={
            "transceivers": [TransceiverSetting(code="alph", host=host, port=port)],
            "log_partitions": PARTITIONS,
        }
    )
    with role(settings, "edge", settings.edges[0].name) as edge:
        asyncio.run(ready(settings, edge))
        yield settings, edge


def ufrag_of(settings: Settings) -> str:
    """A new one that the edge takes."""
    key = settings.ufrag_key_bytes()
    return new_ufrag("alph", key, key_id_of(key))


def through(settings: Settings, transceiver: Peer, flow: Flow, data: bytes, answer: bytes) -> None:
    """Send a datagram up and its answer down."""
    edge, key = settings.edges[0], derive(settings.ufrag_key_bytes())
    flow.send(data, (edge.host, edge.port))
    got = transceiver.receive()
    while got[0] != UP:  # a probe of the way
        got = transceiver.receive()
    header = read_up(got, [key])
    assert (header.client, got[header.offset :]) == (ClientAddress(*flow.address), data)
    down = down_header(*flow.address, flow.session, key, LEVEL_ID) + answer
    transceiver.send(down, (edge.internal_host, edge.internal_port))
    assert flow.receive() == answer


def test_many_flows_are_spread_and_their_facts_are_right_to_the_packet(tmp_path: Path) -> None:
    transceiver = Peer()
    with ExitStack() as opened:
        opened.enter_context(transceiver.socket)
        settings, _ = opened.enter_context(edge_alone(settings_with_workers(tmp_path), transceiver))
        flows = [Flow(number) for number in range(HOSTS * PER_HOST)]
        for flow in flows:
            opened.enter_context(flow.socket)
        for flow in flows:
            asked = check(ufrag_of(settings))
            through(settings, transceiver, flow, asked, check(answer_to=asked))
        for n in range(PACKETS):
            for flow in flows:
                through(settings, transceiver, flow, rtp(n, UP_SSRC), rtp(n, DOWN_SSRC))
        now = shown(settings)
        expected = Counter(worker_of(*flow.address, WORKERS) for flow in flows)
        both_ways = 2 * (PACKETS + 1)
        assert now.carried() == [both_ways * expected[worker] for worker in range(WORKERS)]
        assert min(now.carried()) > 0
        assert now.total("flows") == len(flows)
        assert now.total("forwarded_datagrams_total") == both_ways * len(flows)
        wait_for(lambda: shown(settings).total("calls") == len(flows), "each call counted by one worker")
        row = top(settings)
        assert (row["dropped"], row["trouble"]) == ({}, None)
    taps = asyncio.run(packets_of_all(settings.log_file))
    for flow in flows:
        for tap, ssrc in (("edge_up", UP_SSRC), ("edge_down", DOWN_SSRC)):
            rows = taps[flow.session, tap]
            assert [(row["ext_seq"], row["stream"], row["newly_lost"]) for row in rows] == [
                (n, ssrc, 0) for n in range(PACKETS)
            ]
    asyncio.run(the_log_is_whole(settings.log_file))


def top(settings: Settings) -> dict[str, Any]:
    """The edge's row in `sidetone top`."""
    environment = {**os.environ, **settings.as_environment()}
    done = subprocess.run(
        command("top", "--json", "--every", "0.1"), env=environment, capture_output=True, check=True, text=True
    )
    (row,) = json.loads(done.stdout)["processes"]
    return dict(row)


async def packets_of_all(path: Path) -> dict[tuple[bytes, str], list[dict[str, Any]]]:
    """Packet facts by session and tap; every session lies in one partition."""
    found: dict[tuple[bytes, str], list[dict[str, Any]]] = defaultdict(list)
    where: dict[bytes, set[int]] = defaultdict(set)
    for partition in range(PARTITIONS):
        for tap, rows in (await packets(path, partition=partition)).items():
            for row in rows:
                found[row["session_id"], tap].append(row)
                where[row["session_id"]].add(partition)
    assert all(len(partitions) == 1 for partitions in where.values())
    assert len({partition for partitions in where.values() for partition in partitions}) > 1
    return found


async def the_log_is_whole(path: Path) -> None:
    """Each worker is a producer whose sequence has no gap and whose final account says what is there."""
    log = SqliteEventLog(path)
    assert (await audit(log)).complete
    sources = set()
    for partition in range(PARTITIONS):
        where = TopicPartition(PACKET.topic, partition)
        offset, end = await log.bounds(where)
        while offset < end:
            for message in await log.read(where, offset, max_bytes=1 << 24):
                sources.add(parse(message.headers).source)
                offset = message.offset + 1
    await log.aclose()
    assert len(sources) == WORKERS


async def test_a_killed_worker_costs_its_own_calls_a_moment_and_the_others_nothing(tmp_path: Path) -> None:
    settings = settings_with_workers(tmp_path)
    edge = settings.edges[0]
    with role(settings, "transceiver") as transceiver, role(settings, "edge", edge.name) as parent:
        await ready(settings, transceiver, parent)
        calls = [await call(settings, edge.region)]
        while len({worker_of_call(client) for client, _ in calls}) < WORKERS:
            calls.append(await call(settings, edge.region))
        for client, _ in calls:
            await until(lambda client=client: len(client.packets) > SECOND)  # type: ignore[misc]
        first, before = worker_of_call(calls[0][0]), pids(settings)
        assert min((await asyncio.to_thread(shown, settings)).carried()) > 0
        os.kill(before[first], signal.SIGKILL)
        heard = [len(client.packets) for client, _ in calls]
        for (client, _), count in zip(calls, heard, strict=True):
            await until(lambda client=client, count=count: len(client.packets) > count + 2 * SECOND)  # type: ignore[misc]
            assert client.peer.connectionState == "connected"
        await until(lambda: pids(settings)[first] != before[first])
        assert pids(settings)[1 - first] == before[1 - first]
        now = await asyncio.to_thread(shown, settings)
        assert (now.total("workers"), now.total("worker_restarts_total")) == (WORKERS, 1)
        for client, _ in calls:
            await client.close()
    for client, session in calls:
        taps = await packets(settings.log_file, session)
        got = {row["ext_seq"] for row in taps["transceiver_in"]}
        missed = sorted(got - {at_edge(row["ext_seq"], min(got)) for row in taps["edge_up"]})
        if worker_of_call(client) == first:
            # Facts in its memory died with it: those of one stretch, and none after it.
            assert not missed or missed == list(range(missed[0], missed[0] + len(missed)))
        else:
            assert missed == []
            assert [row["newly_lost"] for row in taps["edge_up"]] == [0] * len(taps["edge_up"])
    assert gone_within(tmp_path, 20.0)


def at_edge(ext_seq: int, first: int) -> int:
    """The transceiver's number of a packet, which either may have counted from another round of 65,536."""
    return first + (ext_seq - first + 32_768) % 65_536 - 32_768


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    transceiver = Peer()
    with transceiver.socket, edge_alone(settings_with_workers(tmp_path), transceiver) as (_, parent):
        parent.send_signal(end)
        assert parent.wait(60) == (-end if end is signal.SIGKILL else 0)
        assert gone_within(tmp_path, 20.0)


def test_while_the_edge_drains_a_client_may_move_to_another_worker(tmp_path: Path) -> None:
    transceiver = Peer()
    draining = settings_with_workers(tmp_path).model_copy(update={"drain_s": 90.0})
    with ExitStack() as opened:
        opened.enter_context(transceiver.socket)
        settings, parent = opened.enter_context(edge_alone(draining, transceiver))
        clients = [Flow(0) for _ in range(32)]
        here = next(client for client in clients if worker_of(*client.address, WORKERS) == 1)
        there, *strangers = (client for client in clients if worker_of(*client.address, WORKERS) == 0)
        ufrag = ufrag_of(settings)
        asked = check(ufrag)
        through(settings, transceiver, here, asked, check(answer_to=asked))
        kept = settings.data_dir / "flows" / f"{settings.edges[0].name}+1"
        wait_for(lambda: ufrag.encode() in kept.read_bytes(), "its flow is written")
        parent.send_signal(signal.SIGTERM)
        log = settings.data_dir / "edge.log"
        wait_for(lambda: log.read_text().count('"edge draining"') == WORKERS, "both drain")
        untried = iter(strangers)

        def reaches(client: Flow, ufrag: str) -> bool:
            asked = check(ufrag)
            client.send(asked, (settings.edges[0].host, settings.edges[0].port))
            time.sleep(0.2)
            return any(asked in data for data in transceiver.pending())

        wait_for(lambda: not reaches(next(untried), ufrag_of(settings)), "new clients are refused")
        wait_for(lambda: reaches(there, ufrag), "the client moves, and tries more than once")
        through(settings, transceiver, there, rtp(1, UP_SSRC), rtp(1, DOWN_SSRC))
        assert parent.poll() is None
        assert parent.wait(60) == 0, "it ends when nothing was heard for a while"


def test_two_edges_at_one_port_are_refused(tmp_path: Path) -> None:
    transceiver = Peer()
    with transceiver.socket, edge_alone(settings_with_workers(tmp_path), transceiver) as (settings, _):
        environment = {**os.environ, **settings.as_environment()}
        second = command("edge", settings.edges[0].name)
        done = subprocess.run(second, env=environment, capture_output=True, check=False, text=True)
        assert done.returncode == 1
        assert f"port {settings.edges[0].port}" in done.stderr
        assert "Traceback" not in done.stderr


def test_workers_that_cannot_start_are_an_error_at_once() -> None:
    def start(control: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["false"], stdin=control.fileno())

    sockets = open_sockets(("127.0.0.1", 0), ("127.0.0.1", 0), WORKERS)
    with ExitStack() as opened:
        for pair in sockets:
            for one in pair:
                opened.enter_context(one)
        with pytest.raises(SettingsError, match="exit status 1"):
            Workers(sockets, start, {}).run(threading.Event(), 0.0, lambda: None)


def test_as_many_workers_as_the_setting_allows() -> None:
    field = Settings.model_fields["edge_workers"]
    assert any(getattr(bound, "le", None) == WORKERS_MAX for bound in field.metadata)
