"""Facts through a broker that is killed: all of them arrive, in order, each chunk under its one name."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from eventlog import Account, Emitter, open_chunk
from eventlog.audit import Audit, audit
from eventlog.codec import ChunkError
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.port import LogUnavailableError, Message, Record, TopicPartition
from eventlog.schema import FACTS
from eventlog.topics import declared
from sidetone.broker import Broker
from tests.golden.eventlog import make

TURN = FACTS["turn"]
SESSIONS = [bytes([number] * 16) for number in range(1, 9)]
PARTITIONS = 2
PATIENCE_S = 90.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be killed."""
    with Broker(tmp_path / "broker") as running:
        yield running


def log(broker: Broker, request_timeout_ms: int = 40_000) -> KafkaEventLog:
    topics = declared(partitions=PARTITIONS, replication=1)
    return KafkaEventLog(KafkaConnection(broker.bootstrap), topics, request_timeout_ms=request_timeout_ms)


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not happened():
        assert time.monotonic() < deadline
        pause.wait(0.02)


class Source:
    """Adds a fact every few milliseconds and measures how long that takes at most."""

    def __init__(self, emitter: Emitter) -> None:
        self.added = 0
        self._emitter = emitter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.added

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            number = self.added
            columns = {"mono_ns": number, "turn_id": 1, "kind": "backchannel", "actor": "user", "at_ns": number}
            session = SESSIONS[number % len(SESSIONS)]
            self._emitter.add(TURN, session_id=session, region="eu", observed_ns=number, **columns)
            self.added += 1


async def audited(broker: Broker) -> tuple[Audit, dict[int, list[int]]]:
    """Audit the log, and read each partition's numbers as a reader gets them who drops repeated chunks."""
    reader = log(broker)
    result = await audit(reader)
    found: dict[int, list[int]] = {}
    for partition in range(PARTITIONS):
        where, seen = TopicPartition(TURN.topic, partition), set[tuple[str, int]]()
        found[partition] = []
        offset, end = await reader.bounds(where)
        while offset < end:
            for message in await reader.read(where, offset, max_bytes=1 << 24):
                offset = message.offset + 1
                _, header, batch = open_chunk(message)
                if (header.source, header.sequence) not in seen:
                    seen.add((header.source, header.sequence))
                    found[partition] += sorted(row["mono_ns"] for row in make.plain(batch))
    await reader.aclose()
    return result, found


@pytest.mark.timeout(300)  # the broker starts twice, on however busy a machine
@pytest.mark.parametrize("request_timeout_ms", [2_000, 40_000])
def test_a_broker_killed_while_producing(broker: Broker, tmp_path: Path, request_timeout_ms: int) -> None:
    edge = Emitter(
        lambda: log(broker, request_timeout_ms),
        role="edge",
        region="eu",
        host_id="host",
        flush_s=0.02,
        spool_dir=tmp_path / "spool",
    )
    edge.start()
    source = Source(edge)
    wait_until(lambda: edge.accounts()["turn"].emitted)
    broker.kill()
    wait_until(lambda: edge.accounts()["turn"].spooled)
    if request_timeout_ms < 10_000:
        wait_until(
            lambda: "no acknowledgement" in str(edge.problem)
        )  # and with it the idempotent producer was given up
    broker.start()
    wait_until(lambda: not edge.accounts()["turn"].spooled)
    added = source.end()
    accounts = edge.close(PATIENCE_S)
    assert accounts["turn"] == Account(captured=added, emitted=added)
    result, found = asyncio.run(audited(broker))
    assert result.complete
    assert result.by_type["turn"].rows == added
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(added))
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert not list((tmp_path / "spool").glob("*.sqlite*"))


async def test_an_append_to_a_broker_that_is_gone_fails_in_time_and_the_next_one_works(broker: Broker) -> None:
    writer = log(broker, request_timeout_ms=2_000)
    where = TopicPartition(TURN.topic, 0)
    assert await writer.partitions(TURN.topic) == PARTITIONS
    assert await writer.append([Record(where, b"one")]) == [0]
    await asyncio.to_thread(broker.kill)
    with pytest.raises(LogUnavailableError):
        await writer.append([Record(where, b"lost")])
    with pytest.raises(LogUnavailableError):  # and now none can even be reached
        await writer.append([Record(where, b"lost")])
    await asyncio.to_thread(broker.start)
    (offset,) = await writer.append([Record(where, b"two")])
    assert [message.value for message in await writer.read(where, offset, max_bytes=100)] == [b"two"]
    await writer.aclose()


async def test_a_message_has_the_brokers_time_whatever_its_producers_clock_says(broker: Broker) -> None:
    reader = log(broker)
    await reader.partitions(TURN.topic)  # makes the topics
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        for off_s in (-30 * 86_400, 2 * 3_600):
            began_ns = time.time_ns()
            at_ms = began_ns // 1_000_000 + off_s * 1_000
            sent = await producer.send_and_wait(TURN.topic, b"x", partition=0, timestamp_ms=at_ms)
            (message,) = await reader.read(TopicPartition(TURN.topic, 0), sent.offset, max_bytes=1)
            assert began_ns - 1_000_000 <= message.appended_ns <= time.time_ns()
    finally:
        await producer.stop()
        await reader.aclose()


async def test_a_header_without_a_value_ends_nobody(broker: Broker) -> None:
    reader = log(broker)
    await reader.partitions(TURN.topic)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(TURN.topic, b"x", partition=0, headers=[("ce_type", None)])
        async with reader.subscribe("group", [TURN.topic]) as member:
            found: list[Message] = []
            while not found:
                found = await member.fetch(max_bytes=1, timeout_s=1)
        assert found[0].headers == {"ce_type": ""}
        with pytest.raises(ChunkError, match="bad_header"):
            open_chunk(found[0])
    finally:
        await producer.stop()
        await reader.aclose()
