"""An edge of two workers: every client at one of them, every fact once, and the death of one is nobody else's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
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
from relay.encap import Client as ClientAddress
from relay.encap import derive, down_header, read_up
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


def test_many_flows_are_spread_and_their_facts_are_right_to_the_packet(tmp_path: Path) -> None:
    transceiver = Peer()
    with ExitStack() as opened:
        opened.enter_context(transceiver.socket)
        settings, _ = opened.enter_context(edge_alone(settings_with_workers(tmp_path), transceiver))
        flows = [Flow(number) for number in range(HOSTS * PER_HOST)]
        for flow in flows:
            opened.enter_context(flow.socket)
        key = settings.ufrag_key_bytes()
        edge = settings.edges[0]
        outside, inside = (edge.host, edge.port), (edge.internal_host, edge.internal_port)

        def through(flow: Flow, data: bytes, answer: bytes) -> None:
            flow.send(data, outside)
            got = transceiver.receive()
            while got[0] != 0x5E:  # a probe of the way
                got = transceiver.receive()
            header = read_up(got, [derive(key)])
            assert (header.client, got[header.offset :]) == (ClientAddress(*flow.address), data)
            transceiver.send(down_header(*flow.address, flow.session, derive(key), LEVEL_ID) + answer, inside)
            assert flow.receive() == answer

        for flow in flows:
            asked = check(new_ufrag("alph", key, key_id_of(key)))
            through(flow, asked, check(answer_to=asked))
        for n in range(PACKETS):
            for flow in flows:
                through(flow, rtp(n, UP_SSRC), rtp(n, DOWN_SSRC))
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
