"""Tables emptied and loaded from the log once more, while facts keep arriving: the result is what was there."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from bench.facts import START_NS, record, sample
from collector import (
    Collector,
    CollectorConfig,
    Progress,
    RebuildError,
    Stage,
    rebuild,
    store_clients,
)
from eventlog.port import EventLog, Record
from eventlog.schema import PACKET, TURN
from eventlog.sqlite import SqliteEventLog
from sidetone.cli import app
from tests.integration.collector_tools import Store, committed, differences, opened_log, until

DAY_NS = 86_400_000_000_000


class Source:
    """Appends chunks with a name of its own, also some twice; remembers each chunk's rows once."""

    def __init__(self) -> None:
        self.rows: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._rng = np.random.default_rng(8)
        self._name = uuid.uuid4().hex
        self._made = 0

    async def append(self, log: EventLog, count: int) -> None:
        records: list[Record] = []
        for number in range(self._made, self._made + count):
            fact = (PACKET, TURN)[number % 2]
            at = START_NS + number % 3 * DAY_NS + number * 10**9
            batch = sample(fact, int(self._rng.integers(10, 60)), self._rng, start_ns=at)
            self.rows[fact.name].append(batch)
            records.append(record(fact, batch, source=self._name, sequence=number // 2, partition=number // 2 % 2))
        self._made += count
        await log.append([*records, *records[:2]])

    def stored(self, client: Client) -> Callable[[], bool]:
        wanted = sum(batch.num_rows for batches in self.rows.values() for batch in batches)
        tables = " UNION ALL ".join(f"SELECT count() AS n FROM sidetone.{fact.table}" for fact in (PACKET, TURN))
        return lambda: client.command(f"SELECT sum(n) FROM ({tables})") == wanted


@pytest.fixture(params=["sqlite", "kafka"])
async def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], EventLog]]:
    async with opened_log(request.param, tmp_path, lambda: request.getfixturevalue("own_kafka_bootstrap")) as opener:
        yield opener


@pytest.fixture
def own_kafka_bootstrap(tmp_path: Path) -> Iterator[str]:
    """A broker of the test's own: a rebuild reads a log from its start."""
    from sidetone.broker import Broker  # noqa: PLC0415 - only if asked for

    with Broker(tmp_path / "kafka") as broker:
        yield broker.bootstrap


async def test_tables_are_rebuilt_row_for_row_while_facts_keep_arriving(
    open_log: Callable[[], EventLog], store: Store, client: Client
) -> None:
    clients = store_clients("127.0.0.1", store.port, timeout_s=30)
    config = CollectorConfig(topics=(PACKET.topic, TURN.topic), max_rows=200, max_age_s=0.05, retry_max_s=0.1)
    source, stop, over = Source(), asyncio.Event(), asyncio.Event()
    log, collectors_log, rebuilders_log = open_log(), open_log(), open_log()
    await log.partitions(PACKET.topic)  # topics are created by whoever asks first
    await source.append(log, 40)
    collecting = asyncio.create_task(Collector(collectors_log, clients, config).run(stop))
    await until(source.stored(client))
    await committed(rebuilders_log, config)  # a range that is stored but not committed yet lies above what is reloaded

    async def keep_appending() -> None:
        while not over.is_set():
            await source.append(log, 2)
            await asyncio.sleep(0.05)

    told: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        told.append((done, total))

    appending = asyncio.create_task(keep_appending())
    for names, tables, at_least in (
        (["packets"], ("packets", "packets_1m", "packets_1s", "region_1m", "region_1s"), 20),
        (["region_1m"], ("region_1m", "region_1s"), 20),
        (["turns", "packets_1s"], ("packets_1m", "packets_1s", "turns"), 40),
    ):
        told.clear()
        result = await rebuild(rebuilders_log, clients, names, config, report=note)
        assert (result.tables, result.resumed) == (tables, False)
        assert result.messages >= at_least
        assert told[-1] == (result.messages, result.messages)
        assert not collecting.done()
    over.set()
    await appending
    await until(source.stored(client))
    stop.set()
    await collecting
    assert differences(client, source.rows) == {}
    left = "SELECT name FROM system.tables WHERE database = 'sidetone' AND name LIKE '%_rebuild_%'"
    assert client.query(left).result_rows == []


async def test_a_range_that_is_stored_but_not_committed_comes_back(
    open_log: Callable[[], EventLog], store: Store, client: Client
) -> None:
    """The collector dies between the ledger's insert and the commit; the tables are emptied; the replay fills them.

    Tokens of a table have to go with its rows, and the ledger must not take the range's own chunks for repeated ones.
    """
    clients = store_clients("127.0.0.1", store.port, timeout_s=30)
    config = CollectorConfig(topics=(PACKET.topic, TURN.topic), max_rows=60)
    source, log = Source(), open_log()
    await log.partitions(PACKET.topic)  # topics are created by whoever asks first
    await source.append(log, 12)
    await Collector(log, clients, config).drain()

    def crash(progress: Progress) -> None:
        if progress.stage is Stage.INSERTED and progress.block is not None and progress.block.table == "chunks":
            raise RuntimeError("crash")

    replayed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.stage is Stage.TAKEN_OVER:
            replayed.append(progress.count)

    def ledger() -> int:
        return int(str(client.command("SELECT count() FROM sidetone.chunks")))

    for rebuilds in (
        (["packets"], ["turns"]),
        (["region_1s"],),
        (["packets_1m"], ["turns"]),
    ):
        await source.append(log, 12)
        before = ledger()
        with pytest.raises(RuntimeError, match="crash"):
            await Collector(log, clients, config, observers=[crash]).drain()
        assert ledger() > before
        for names in rebuilds:
            await rebuild(log, clients, names, config)
        assert differences(client, source.rows)
        replayed.clear()
        await Collector(log, clients, config, observers=[watch]).drain()
        assert sum(replayed)
        assert differences(client, source.rows) == {}


async def test_a_rebuild_that_was_cut_off_is_finished_by_the_same_command(
    store: Store, client: Client, tmp_path: Path
) -> None:
    clients = store_clients("127.0.0.1", store.port, timeout_s=30)
    config = CollectorConfig(topics=(PACKET.topic, TURN.topic), max_rows=60)
    source, log = Source(), SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
    await source.append(log, 30)
    await Collector(log, clients, config).drain()

    def crash(done: int, total: int) -> None:
        if done > total / 2:
            raise RuntimeError("crash")

    for names in (["packets"], ["packets_1s"]):
        with pytest.raises(RuntimeError, match="crash"):
            await rebuild(log, clients, names, config, report=crash)
        assert differences(client, source.rows)
        await source.append(log, 6)
        await Collector(log, clients, config).drain()
        with pytest.raises(RebuildError, match="was cut off; finish it first: sidetone rebuild packets"):
            await rebuild(log, clients, [*names, "turns"], config)
        assert (await rebuild(log, clients, names, config)).resumed
        assert differences(client, source.rows) == {}
    await log.aclose()


async def test_a_table_whose_facts_left_the_log_is_not_touched(store: Store, client: Client, tmp_path: Path) -> None:
    clients = store_clients("127.0.0.1", store.port, timeout_s=30)
    config = CollectorConfig(topics=(PACKET.topic, TURN.topic))
    source, log = Source(), SqliteEventLog(tmp_path / "log.sqlite", partitions=2, max_bytes=40_000)
    for _ in range(10):
        await source.append(log, 4)
        await Collector(log, clients, config).drain()
    with pytest.raises(RebuildError, match=r"keeps sidetone.packets\[\d\] from offset \d+ on only"):
        await rebuild(log, clients, ["packets"], config)
    assert differences(client, source.rows) == {}
    with pytest.raises(RebuildError, match="'chunks' is no table that is made from the log"):
        await rebuild(log, clients, ["chunks"], config)
    await log.aclose()


def test_the_command(store: Store, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SIDETONE_STORE_PORT", str(store.port))
    source = Source()

    async def fill() -> None:
        log = SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
        await source.append(log, 10)
        await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30)).drain()
        await log.aclose()

    asyncio.run(fill())
    result = CliRunner().invoke(app, ["rebuild", "turns", "region_1s", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tables"] == ["region_1m", "region_1s", "turns"]
    assert differences(client, source.rows) == {}
