"""Several collectors share a Kafka group: partitions move while ranges are under way, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bench.facts import START_NS, record, sample
from collector import Collector, CollectorConfig, Progress, Stage, store_clients
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.port import FencedError, Message
from eventlog.schema import PACKET, TURN
from eventlog.topics import declared
from tests.integration.collector_tools import Store, differences, empty, from_here, until


class Member:
    """One collector with a log of its own."""

    def __init__(self, bootstrap: str, store: Store, config: CollectorConfig) -> None:
        self.stages: Counter[Stage] = Counter()
        self.inserting = asyncio.Event()
        self.taken_over = asyncio.Event()
        self.owned = 0
        self._stop = asyncio.Event()
        self._log = KafkaEventLog(KafkaConnection(bootstrap), declared(partitions=2, replication=1))
        clients = store_clients("127.0.0.1", store.port, timeout_s=30)
        self._work = asyncio.create_task(Collector(self._log, clients, config, observers=[self._see]).run(self._stop))

    def _see(self, progress: Progress) -> None:
        self.stages[progress.stage] += 1
        if progress.stage is Stage.INSERTING:
            self.inserting.set()
        if progress.stage is Stage.TAKEN_OVER and progress.partitions:
            self.owned = progress.partitions
            self.taken_over.set()

    async def leave(self) -> None:
        """Stop as SIGTERM would."""
        self._stop.set()
        await self._work
        await self._log.aclose()

    async def vanish(self) -> None:
        """End in the middle of whatever it does."""
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)
        await self._log.aclose()


async def test_partitions_that_move_in_mid_range_lose_and_double_nothing(kafka_bootstrap: str, store: Store) -> None:
    client = store.client()
    empty(client)
    config = CollectorConfig(
        group=f"rebalance-{uuid.uuid4().hex}",
        topics=(PACKET.topic, TURN.topic),
        max_rows=300,
        max_age_s=0.05,
        stop_grace_s=30,
        retry_max_s=0.1,
    )
    log = KafkaEventLog(KafkaConnection(kafka_bootstrap), declared(partitions=2, replication=1))
    await from_here(log, config)
    source: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    rng = np.random.default_rng(3)
    producer, made = uuid.uuid4().hex, 0

    async def append(count: int) -> None:
        nonlocal made
        records = []
        for number in range(made, made + count):
            fact = (PACKET, TURN)[number % 2]
            batch = sample(fact, int(rng.integers(20, 120)), rng, start_ns=START_NS + number * 10**9)
            source[fact.name].append(batch)
            records.append(record(fact, batch, source=producer, sequence=number // 2, partition=number // 2 % 2))
        made += count
        await log.append(records)

    def arrived() -> bool:
        wanted = sum(batch.num_rows for batches in source.values() for batch in batches)
        stored = client.command("SELECT (SELECT count() FROM sidetone.packets) + (SELECT count() FROM sidetone.turns)")
        return isinstance(stored, int) and stored >= wanted

    await append(40)
    members = [Member(kafka_bootstrap, store, config)]
    await members[0].inserting.wait()
    for _ in range(3):  # each joins while the others are inserting
        await append(24)
        members.append(Member(kafka_bootstrap, store, config))
        await members[-1].taken_over.wait()
    assert all(0 < member.owned < 4 for member in members[1:])
    await append(40)
    await members[0].vanish()
    await append(24)
    await members[1].leave()
    await until(arrived)
    await asyncio.gather(*(member.leave() for member in members[2:]))
    await log.aclose()
    assert differences(client, source) == {}
    assert members[0].stages[Stage.TAKEN_OVER] >= 2


async def test_a_collector_that_joins_late_takes_no_commit_of_work_planned_before(
    kafka_bootstrap: str, store: Store
) -> None:
    """The member keeps its partition through the rebalance, yet must not commit what it planned before."""
    client = store.client()
    empty(client)
    config = CollectorConfig(group=f"rebalance-{uuid.uuid4().hex}", topics=(PACKET.topic,), max_age_s=0.05)
    log = KafkaEventLog(KafkaConnection(kafka_bootstrap), declared(partitions=2, replication=1))
    await from_here(log, config)
    rng = np.random.default_rng(4)
    batches = [sample(PACKET, 30, rng, start_ns=START_NS + number * 10**9) for number in range(8)]
    name = uuid.uuid4().hex
    await log.append(
        [record(PACKET, one, source=name, sequence=number, partition=number % 2) for number, one in enumerate(batches)]
    )
    client.command("RENAME TABLE sidetone.packets TO sidetone.packets_away")
    first = Member(kafka_bootstrap, store, config)
    await first.inserting.wait()
    second = Member(kafka_bootstrap, store, config)
    await second.taken_over.wait()
    client.command("RENAME TABLE sidetone.packets_away TO sidetone.packets")
    await until(lambda: not differences(client, {PACKET.name: batches}))
    await asyncio.gather(first.leave(), second.leave())
    await log.aclose()
    assert first.stages[Stage.FENCED] >= 1
    assert differences(client, {PACKET.name: batches}) == {}


async def test_a_member_whose_coordination_died_joins_again(kafka_bootstrap: str) -> None:
    """aiokafka's dies for good if the poll limit passes while it joins; seen with a store that stood still."""
    log = KafkaEventLog(KafkaConnection(kafka_bootstrap), declared(partitions=2, replication=1))
    config = CollectorConfig(group=f"rebalance-{uuid.uuid4().hex}", topics=(PACKET.topic,))
    await from_here(log, config)
    async with log.subscribe(config.group, config.topics) as member:
        before = member.generation
        coordinator: Any = member._consumer._coordinator  # type: ignore[union-attr]
        coordinator._coordination_task.cancel()  # as it is when it cancels itself
        await asyncio.wait({coordinator._coordination_task})
        with pytest.raises(FencedError, match="fell out of"):
            await member.fetch(max_bytes=1, timeout_s=0.1)
        assert member.generation > before
        await log.append([record(PACKET, sample(PACKET, 3, np.random.default_rng(5)), source="late", sequence=0)])
        found: list[Message] = []
        while not found:
            found = await member.fetch(max_bytes=1, timeout_s=1)
        assert found[0].headers["ce_source"] == "late"
    await log.aclose()
