"""From the log into the embedded store: every value of every type, exactly once, whatever stands between."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from bench.facts import START_NS, packets, record, sample
from collector import (
    Collector,
    CollectorConfig,
    Migration,
    MigrationError,
    PoisonError,
    Progress,
    Stage,
    StoreSettings,
    letters,
    migrate,
    migrations,
    original,
    run_collector,
    store_clients,
)
from collector.migrate import BOOTSTRAP, placed
from eventlog.port import Committed, Record, TopicPartition
from eventlog.schema import FACTS, PACKET, TURN
from eventlog.sqlite import SqliteEventLog
from sidetone.ports import free_port
from tests.integration.collector_tools import Store, differences, running_store

DAY_NS = 86_400_000_000_000
Source = dict[str, list[pa.RecordBatch]]


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
    opened = SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
    yield opened
    await opened.aclose()


def chunks(
    source: Source, count: int, *, seed: int, step_ns: int = 10**9, names: tuple[str, ...] = tuple(FACTS)
) -> list[Record]:
    """Make chunks of every type, over both partitions, and note their rows in `source`."""
    rng = np.random.default_rng(seed)
    records = []
    for name in names:
        for number in range(count):
            batch = sample(FACTS[name], int(rng.integers(1, 40)), rng, start_ns=START_NS + number * step_ns)
            source[name].append(batch)
            records.append(record(FACTS[name], batch, source=f"test-{seed}", sequence=number, partition=number % 2))
    return records


def collector(log: SqliteEventLog, store: Store, config: CollectorConfig | None = None, **options: Any) -> Collector:
    return Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config, **options)


async def test_every_value_of_all_nine_types_arrives_and_the_rollups_add_up(
    log: SqliteEventLog, store: Store, client: Client
) -> None:
    source: Source = defaultdict(list)
    await log.append(chunks(source, 6, seed=1, step_ns=DAY_NS // 4))
    await collector(log, store).drain()
    assert differences(client, source) == {}
    assert set(source) == set(FACTS)
    assert await letters(log) == []
    for name in FACTS:
        for partition in range(2):
            where = TopicPartition(FACTS[name].topic, partition)
            async with log.subscribe("sidetone-collector", [where.topic]) as subscription:
                assert await subscription.committed(where) == Committed((await log.bounds(where))[1])


async def test_a_second_run_goes_on_where_the_first_ended(log: SqliteEventLog, store: Store, client: Client) -> None:
    source: Source = defaultdict(list)
    for seed in range(3):
        await log.append(chunks(source, 2, seed=seed))
        await collector(log, store, CollectorConfig(max_rows=50)).drain()
    assert differences(client, source) == {}


async def test_a_full_block_is_one_part(log: SqliteEventLog, store: Store, client: Client) -> None:
    rng = np.random.default_rng(4)
    batches = [packets(rng, sessions=20, rows=60_000, region="eu-west", start_ns=START_NS) for _ in range(17)]
    await log.append([record(PACKET, batch, source="s", sequence=n) for n, batch in enumerate(batches)])
    client.command("SYSTEM STOP MERGES sidetone.packets")
    config = CollectorConfig(max_rows=1_048_449, max_bytes=1 << 30, fetch_bytes=1 << 30, workers=1)
    await collector(log, store, config).drain()
    parts = client.query(
        "SELECT rows FROM system.parts WHERE database = 'sidetone' AND table = 'packets' AND active"
    ).result_rows
    client.command("SYSTEM START MERGES sidetone.packets")
    assert parts == [(sum(batch.num_rows for batch in batches),)]


async def test_a_range_left_open_at_any_step_is_completed_and_never_doubled(
    log: SqliteEventLog, store: Store, client: Client
) -> None:
    source: Source = defaultdict(list)
    for seed, stage in enumerate((Stage.INTENDED, Stage.OPENED, Stage.INSERTING, Stage.INSERTED)):
        await log.append(chunks(source, 3, seed=seed, step_ns=DAY_NS // 2))
        for at in (1, 3, 6):
            count = 0

            def stop_there(progress: Progress, stage: Stage = stage, at: int = at) -> None:
                nonlocal count
                count += progress.stage is stage
                if count == at:
                    raise RuntimeError("crash")

            with pytest.raises(RuntimeError, match="crash"):
                await collector(log, store, observers=[stop_there]).drain()
    replayed = 0

    def note(progress: Progress) -> None:
        nonlocal replayed
        replayed += progress.count if progress.stage is Stage.TAKEN_OVER else 0

    await collector(log, store, observers=[note]).drain()
    assert replayed > 0
    assert differences(client, source) == {}


async def test_what_a_crash_left_in_the_base_table_only_is_completed_in_the_rollups(
    log: SqliteEventLog, store: Store, client: Client
) -> None:
    source: Source = defaultdict(list)
    await log.append(chunks(source, 2, seed=5, names=(PACKET.name,)))
    client.command("DETACH TABLE sidetone.region_1m_mv")
    client.command("DETACH TABLE sidetone.packets_1s_mv")

    def crash(progress: Progress) -> None:
        if progress.stage is Stage.INSERTED:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await collector(log, store, observers=[crash]).drain()
    client.command("ATTACH TABLE sidetone.region_1m_mv")
    client.command("ATTACH TABLE sidetone.packets_1s_mv")
    assert {"packets_1s", "packets_1m", "region_1m"} <= differences(client, source).keys()
    await collector(log, store).drain()
    assert differences(client, source) == {}


async def test_each_kind_of_poison_is_dead_lettered_and_costs_nothing_else(
    log: SqliteEventLog, store: Store, client: Client
) -> None:
    source: Source = defaultdict(list)
    good = chunks(source, 10, seed=6, names=(TURN.name,))
    spoiled: Source = defaultdict(list)
    bad = chunks(spoiled, 6, seed=7, names=(TURN.name,))
    (packet,) = chunks(spoiled, 1, seed=8, names=(PACKET.name,))
    bad[0] = replace(bad[0], headers={**bad[0].headers, "ce_type": "sidetone.dream.v1"})
    bad[1] = replace(bad[1], headers={**bad[1].headers, "crc32c": "00000000"})
    bad[2] = resealed(bad[2], bad[2].value[:-20])
    bad[3] = resealed(bad[3], packet.value)
    bad[4] = replace(bad[4], headers={})
    bad[5] = replace(bad[5], headers={**bad[5].headers, "rows": "1000"})
    both = [one for pair in zip(good, bad, strict=False) for one in pair] + good[6:]
    await log.append([replace(one, where=TopicPartition(TURN.topic, 0)) for one in both])
    await collector(log, store).drain()
    assert differences(client, source) == {}
    found = await letters(log)
    assert [(letter.offset, letter.reason, letter.value_bytes) for letter in found] == [
        (1, "unknown_type", len(bad[0].value)),
        (3, "bad_checksum", len(bad[1].value)),
        (5, "truncated", len(bad[2].value)),
        (7, "wrong_schema", len(bad[3].value)),
        (9, "bad_header", len(bad[4].value)),
        (11, "bad_row_count", len(bad[5].value)),
    ]
    assert [(await original(log, letter)).value for letter in found] == [one.value for one in bad]
    assert [letter.headers for letter in found] == [one.headers for one in bad]


def resealed(one: Record, value: bytes) -> Record:
    """Return the record with other bytes under a right checksum."""
    import crc32c  # noqa: PLC0415

    return replace(one, value=value, headers={**one.headers, "crc32c": f"{crc32c.crc32c(value):08x}"})


async def test_a_run_of_poison_halts_and_passes_nothing(log: SqliteEventLog, store: Store, client: Client) -> None:
    where = TopicPartition(TURN.topic, 0)
    source: Source = defaultdict(list)
    good = [replace(one, where=where) for one in chunks(source, 2, seed=9, names=(TURN.name,))]
    await log.append([good[0], *(Record(where, zlib.compress(b"?")) for _ in range(5)), good[1]])
    for _ in range(2):
        with pytest.raises(PoisonError, match=r"5 messages in a row on sidetone\.turns\[0\] up to offset 5"):
            await collector(log, store, CollectorConfig(poison_limit=4)).drain()
    assert client.command("SELECT count() FROM sidetone.turns") == 0
    await collector(log, store, CollectorConfig(poison_limit=5)).drain()
    assert differences(client, source) == {}
    assert len(await letters(log)) == 5


async def test_the_same_range_waits_for_a_store_that_is_away(log: SqliteEventLog, tmp_path: Path) -> None:
    source: Source = defaultdict(list)
    await log.append(chunks(source, 3, seed=10))
    steps: list[Progress] = []
    with running_store(tmp_path / "store") as first:
        migrate(first.client())
        port = first.port
    refused = asyncio.Event()

    def watch(progress: Progress) -> None:
        steps.append(progress)
        if progress.stage is Stage.REFUSED:
            refused.set()

    loading = asyncio.create_task(collector(log, first, CollectorConfig(retry_max_s=0.1), observers=[watch]).drain())
    await refused.wait()
    with running_store(tmp_path / "store", port) as second:
        await loading
        assert differences(second.client(), source) == {}
    tokens = [(p.stage, p.block.token) for p in steps if p.block]
    assert {t for stage, t in tokens if stage is Stage.REFUSED} <= {t for stage, t in tokens if stage is Stage.INSERTED}
    assert {p.kind for p in steps if p.stage is Stage.REFUSED} == {"unreachable"}


async def test_a_collector_that_was_superseded_drops_its_work_and_the_other_finishes_it(
    log: SqliteEventLog, store: Store, client: Client, tmp_path: Path
) -> None:
    source: Source = defaultdict(list)
    await log.append(chunks(source, 3, seed=11))
    other = SqliteEventLog(tmp_path / "log.sqlite")
    others: list[asyncio.Task[None]] = []
    fenced = asyncio.Event()
    stop = asyncio.Event()
    joined = asyncio.Event()

    def join(progress: Progress) -> None:
        if progress.stage is Stage.TAKEN_OVER:
            joined.set()

    def watch(progress: Progress) -> None:
        if progress.stage is Stage.INSERTING and not others:
            others.append(asyncio.create_task(collector(other, store, config, observers=[join]).run(stop)))
        if progress.stage is Stage.FENCED:
            fenced.set()

    config = CollectorConfig(max_rows=40, stop_grace_s=60)
    first = asyncio.create_task(collector(log, store, config, observers=[watch]).run(stop))
    await asyncio.wait_for(asyncio.gather(fenced.wait(), joined.wait()), 30)
    stop.set()
    await asyncio.gather(first, *others)
    await other.aclose()
    assert differences(client, source) == {}


async def test_late_facts_are_stored_and_a_log_made_anew_is_not_mistaken_for_the_old_one(
    store: Store, client: Client, tmp_path: Path
) -> None:
    source: Source = defaultdict(list)
    for name in ("first", "second"):
        log = SqliteEventLog(tmp_path / name)
        one = chunks(source, 2, seed=12, step_ns=-400 * DAY_NS, names=(PACKET.name,))
        await log.append([replace(record, where=TopicPartition(PACKET.topic, 0)) for record in one])
        await collector(log, store).drain()
        await log.aclose()
    assert differences(client, source) == {}


async def test_messages_that_retention_deleted_are_counted_and_the_rest_is_loaded(
    store: Store, client: Client, tmp_path: Path
) -> None:
    source: Source = defaultdict(list)
    log = SqliteEventLog(tmp_path / "small", max_bytes=60_000)
    steps: list[Progress] = []
    await log.append(chunks(source, 1, seed=13, names=(TURN.name,)))

    def crash(progress: Progress) -> None:
        if progress.stage is Stage.INTENDED:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await collector(log, store, observers=[crash]).drain()
    source.clear()
    where = TopicPartition(TURN.topic, 0)
    for seed in range(14, 40):
        records = chunks(source, 1, seed=seed, names=(TURN.name,))
        await log.append([replace(one, where=where) for one in records])
    first, end = await log.bounds(where)
    assert 0 < first < end
    await collector(log, store, observers=[steps.append]).drain()
    await log.aclose()
    assert sum(step.count for step in steps if step.stage is Stage.EXPIRED) == first
    assert differences(client, {TURN.name: source[TURN.name][first - 1 :]}) == {}


async def test_the_service_migrates_reports_and_ends_with_the_log_loaded(
    log: SqliteEventLog, store: Store, client: Client, tmp_path: Path
) -> None:
    source: Source = defaultdict(list)
    await log.append(chunks(source, 2, seed=15))
    stop, ready = asyncio.Event(), asyncio.Event()
    port = free_port()
    config = CollectorConfig(metrics_port=port, stop_grace_s=20)
    path = tmp_path / "log.sqlite"
    service = asyncio.create_task(
        run_collector(config, lambda: SqliteEventLog(path), "127.0.0.1", store.port, stop, on_ready=ready.set)
    )
    await ready.wait()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/healthz")).status_code == 200
        await log.append(chunks(source, 2, seed=16))
        wanted = f'sidetone_collector_rows_total{{topic="sidetone.turns"}} {sum(b.num_rows for b in source["turn"])}.0'
        while wanted not in (await http.get("/metrics")).text:
            assert not service.done()
            await asyncio.sleep(0.02)
        assert (await http.get("/readyz")).json() == {"status": "ok"}
    await log.append(chunks(source, 2, seed=17))
    stop.set()
    await service
    assert differences(client, source) == {}


async def test_a_service_told_to_stop_while_the_store_is_away_stops(tmp_path: Path) -> None:
    stop = asyncio.Event()
    service = asyncio.create_task(
        run_collector(CollectorConfig(), lambda: SqliteEventLog(tmp_path / "log"), "127.0.0.1", free_port(), stop)
    )
    stop.set()
    await asyncio.wait_for(service, 20)


def test_migrations_run_once_and_refuse_an_edited_or_unknown_one(store: Store) -> None:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=store.port)
    assert migrate(client) == []
    known = migrations()
    edited = [replace(known[0], text=known[0].text + "-- afterthought\n"), *known[1:]]
    with pytest.raises(MigrationError, match="0001_facts was edited"):
        migrate(client, known=edited)
    with pytest.raises(MigrationError, match="made by a newer one"):
        migrate(client, known=known[:-1])
    more = Migration(99, "more", "-- why\nCREATE TABLE IF NOT EXISTS sidetone.more (a UInt8)\nENGINE = Memory;\n")
    assert migrate(client, known=[*known, more]) == ["0099_more"]
    client.command("DROP TABLE sidetone.more")
    client.command("ALTER TABLE sidetone.migrations DELETE WHERE version = 99 SETTINGS mutations_sync = 2")


def test_the_engine_reads_every_statement_for_a_cluster(store: Store) -> None:
    settings = StoreSettings(cluster="facts", ttl_facts_days=30, ttl_chunks_days=30)
    client = store.client()
    for statement in [*placed(BOOTSTRAP, settings), *(s for m in migrations() for s in m.statements(settings))]:
        read = str(client.command("SELECT formatQuery({text:String})", parameters={"text": statement}))
        assert "ON CLUSTER facts" in read
