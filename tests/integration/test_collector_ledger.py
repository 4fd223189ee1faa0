"""A chunk that its producer sent twice is stored once, on both logs, wherever a collector dies."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from bench.facts import START_NS, record, sample
from collector import Collector, CollectorConfig, Progress, Stage, store_clients
from collector.metrics import Metrics
from eventlog.port import EventLog, Record
from eventlog.schema import PACKET, TURN
from tests.integration.collector_tools import Store, differences

SOURCE = uuid.uuid4().hex


@pytest.fixture
def config() -> CollectorConfig:
    return CollectorConfig(group=f"ledger-{uuid.uuid4().hex}", topics=(PACKET.topic, TURN.topic), retry_max_s=0.1)


class Chunks:
    """Chunks of packets and turns with a source of their own; remembers each chunk's rows once."""

    def __init__(self) -> None:
        self.source: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._rng = np.random.default_rng(5)
        self._name = uuid.uuid4().hex
        self._made = 0

    def make(self, count: int) -> list[Record]:
        made = []
        for _ in range(count):
            fact = (PACKET, TURN)[self._made % 2]
            batch = sample(fact, int(self._rng.integers(5, 30)), self._rng, start_ns=START_NS + self._made * 10**9)
            self.source[fact.name].append(batch)
            number = self._made // 2
            made.append(record(fact, batch, source=self._name, sequence=number, partition=number % 2))
            self._made += 1
        return made


def collector(log: EventLog, store: Store, config: CollectorConfig, **options: Any) -> Collector:
    return Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config, **options)


async def test_a_chunk_sent_again_is_stored_once_and_counted(
    log: EventLog, store: Store, client: Client, config: CollectorConfig
) -> None:
    chunks, metrics = Chunks(), Metrics()
    first, second, third = chunks.make(6), chunks.make(6), chunks.make(6)
    await log.append([*first, *second, *first[2:], *second[:3]])
    await collector(log, store, config, observers=[metrics.observe]).drain()
    await log.append([*second, *third, *first, *third])
    await collector(log, store, config, observers=[metrics.observe]).drain()
    assert differences(client, chunks.source) == {}
    in_ledger = "SELECT count(), uniqExact(ce_source, ce_type, ce_sequence), sum(rows) FROM sidetone.chunks"
    rows = sum(batch.num_rows for batches in chunks.source.values() for batch in batches)
    assert client.query(in_ledger).result_rows == [(18, 18, rows)]
    dropped = [
        metrics.registry.get_sample_value("sidetone_collector_repeated_chunks_total", {"topic": fact.topic})
        for fact in (PACKET, TURN)
    ]
    assert sum(value or 0 for value in dropped) == 7 + 18


async def test_the_same_chunks_are_dropped_however_often_a_range_is_torn(
    log: EventLog, store: Store, client: Client, config: CollectorConfig
) -> None:
    chunks = Chunks()
    sent: list[Record] = []
    torn = 0
    small = replace(config, max_rows=60)
    for stage in (Stage.OPENED, Stage.INSERTING, Stage.INSERTED, Stage.COMMITTED):
        for at in (1, 2, 3, 4):
            fresh = chunks.make(2)
            await log.append([*fresh, *sent[-3:], *fresh])
            sent += fresh
            count = 0

            def stop_there(progress: Progress, stage: Stage = stage, at: int = at) -> None:
                nonlocal count
                count += progress.stage is stage
                if count == at:
                    raise RuntimeError("crash")

            try:
                await collector(log, store, small, observers=[stop_there]).drain()
            except RuntimeError:
                torn += 1
    assert torn >= 10
    await collector(log, store, config).drain()
    assert differences(client, chunks.source) == {}
    assert client.command("SELECT count() = uniqExact(ce_source, ce_type, ce_sequence) FROM sidetone.chunks") == 1


async def test_a_copy_of_a_chunk_that_was_refused_is_taken(
    log: EventLog, store: Store, client: Client, config: CollectorConfig
) -> None:
    chunks = Chunks()
    good = chunks.make(4)
    spoiled = [replace(one, value=one.value[:-9] + b"\x00" * 9) for one in good]
    await log.append([*spoiled, *good])
    await collector(log, store, config).drain()
    assert differences(client, chunks.source) == {}
