"""What tests of the collector share: a store in a process of its own, and the oracle.

The oracle compares the store with what was handed to the log, never with itself: raw rows value by value, and every
rollup with sums made here from the source.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from collector import CollectorConfig, store_clients
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.port import Committed, EventLog
from eventlog.schema import FACTS, PACKET, TIME, UUID_TYPE, FactType
from eventlog.sqlite import SqliteEventLog
from eventlog.topics import declared
from sidetone.store.process import StoreProcess

SECOND_NS = 1_000_000_000
SUMS = ("packets", "bytes", "lost", "duplicates", "reordered", "transit_abs_us_sum", "transit_count")
ROLLUPS = {
    "packets_1s": ("region", "tap", "session_id", "stream", "second"),
    "packets_1m": ("region", "tap", "session_id", "stream", "minute"),
    "region_1s": ("region", "tap", "second"),
    "region_1m": ("region", "tap", "minute"),
}
PER_STREAM = ("transit_abs_us_max", "min_ext_seq", "max_ext_seq")


@dataclass
class Store:
    """A store's process and how to reach it."""

    running: StoreProcess

    @property
    def port(self) -> int:
        return self.running.port

    def client(self) -> Client:
        return store_clients("127.0.0.1", self.port, timeout_s=30)()

    def kill(self) -> None:
        self.running.kill()


@contextmanager
def running_store(folder: Path, port: int = 0) -> Iterator[Store]:
    """Run the embedded store; it is killed at the end, as any crash would."""
    with StoreProcess(folder, port) as running:
        yield Store(running)


def empty(client: Client) -> None:
    """Remove every row; the tables stay."""
    for table in [*(fact.table for fact in FACTS.values()), *ROLLUPS, "chunks"]:
        client.command(f"TRUNCATE TABLE sidetone.{table}")


def source_rows(fact: FactType, batches: Iterable[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    """Return what was handed to the log, in plain values: UUID text, nanoseconds, hexadecimal bytes."""
    rows = []
    for batch in batches:
        columns = [_plain(field.type, batch.column(field.name)) for field in fact.schema]
        rows += list(zip(*columns, strict=True))
    return rows


def _plain(kind: pa.DataType, column: Any) -> list[Any]:
    if kind == TIME:
        return list(column.cast(pa.int64()).to_pylist())
    values = column.to_pylist()
    if kind == UUID_TYPE:
        return [str(uuid.UUID(bytes=value)) for value in values]
    if pa.types.is_binary(kind):
        return [value.hex().upper() for value in values]
    if isinstance(kind, pa.MapType):
        return [tuple(sorted(value)) for value in values]
    return list(values)


def stored_rows(client: Client, fact: FactType) -> list[tuple[Any, ...]]:
    """Return the table's rows in the same plain values."""
    selected = []
    for field in fact.schema:
        name = f"`{field.name}`"
        if field.type == TIME:
            name = f"toUnixTimestamp64Nano({name})"
        elif field.type == UUID_TYPE:
            name = f"toString({name})"
        elif pa.types.is_binary(field.type):
            name = f"hex({name})"
        selected.append(name)
    rows = client.query(f"SELECT {', '.join(selected)} FROM sidetone.{fact.table}").result_rows
    return [tuple(tuple(sorted(v.items())) if isinstance(v, dict) else v for v in row) for row in rows]


def differences(client: Client, source: dict[str, list[pa.RecordBatch]]) -> dict[str, str]:
    """Return by table what the store has wrong against the source; empty if nothing."""
    wrong = {}
    for name, batches in source.items():
        fact = FACTS[name]
        wanted, found = Counter(source_rows(fact, batches)), Counter(stored_rows(client, fact))
        if wanted != found:
            wrong[fact.table] = f"{(wanted - found).total()} rows missing, {(found - wanted).total()} too many"
    wrong |= rollup_differences(client, source.get(PACKET.name, []))
    return wrong


def rollup_differences(client: Client, batches: list[pa.RecordBatch]) -> dict[str, str]:
    """Compare every rollup with sums over the source; percentiles with those over the (compared) raw rows."""
    wrong = {}
    for table, keys in ROLLUPS.items():
        per_stream = "stream" in keys
        wanted = _rolled_up(batches, keys)
        sums = [f"sum({column})" for column in SUMS]
        if per_stream:
            sums += ["max(transit_abs_us_max)", "min(min_ext_seq)", "max(max_ext_seq)"]
        of_keys = [{"session_id": "toString(session_id)", "second": "toUnixTimestamp(second)"}.get(k, k) for k in keys]
        of_keys = ["toUnixTimestamp(minute)" if k == "minute" else k for k in of_keys]
        rows = client.query(
            f"SELECT {', '.join(of_keys)}, {', '.join(sums)} FROM sidetone.{table} GROUP BY {', '.join(keys)}"
        ).result_rows
        found = {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in rows}
        if found != wanted:
            bad = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
            wrong[table] = f"{len(bad)} groups differ, such as {bad[0]}: {found.get(bad[0])}, not {wanted.get(bad[0])}"
        elif not per_stream:
            quantiles = "0.01, 0.5, 0.9, 0.95, 0.99"
            merged = client.query(f"SELECT quantilesDDMerge({quantiles})(transit_abs_us_dd) FROM sidetone.{table}")
            direct = client.query(f"SELECT quantilesDD({quantiles})(abs(transit_delta_us)) FROM sidetone.packets")
            if batches and merged.result_rows != direct.result_rows:
                wrong[table] = f"percentiles {merged.result_rows[0][0]}, not {direct.result_rows[0][0]}"
    return wrong


def _rolled_up(batches: list[pa.RecordBatch], keys: tuple[str, ...]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    groups: defaultdict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    names = PACKET.schema.names
    for values in source_rows(PACKET, batches):
        row = dict(zip(names, values, strict=True))
        row["second"] = row["observed_ns"] // SECOND_NS
        row["minute"] = row["second"] // 60 * 60
        groups[tuple(row[key] for key in keys)].append(row)
    rolled = {}
    for key, rows in groups.items():
        changes = [abs(row["transit_delta_us"]) for row in rows if row["transit_delta_us"] is not None]
        sums = (
            len(rows),
            sum(row["size_bytes"] for row in rows),
            sum(row["newly_lost"] for row in rows),
            sum(row["duplicate"] for row in rows),
            sum(row["reordered"] for row in rows),
            sum(changes),
            len(changes),
        )
        sequence = [row["ext_seq"] for row in rows]
        per_stream = (max(changes, default=0), min(sequence), max(sequence)) if "stream" in keys else ()
        rolled[key] = sums + per_stream
    return rolled


async def from_here(log: EventLog, config: CollectorConfig) -> None:
    """Have a group start at the log's present end, so that tests can share a log's topics."""
    for topic in config.topics:
        await log.partitions(topic)  # created if missing
    async with log.subscribe(config.group, config.topics) as subscription:
        ends = {where: Committed((await log.bounds(where))[1]) for where in subscription.assignment}
        await subscription.commit(ends)


@asynccontextmanager
async def opened_log(kind: str, folder: Path, bootstrap: Callable[[], str]) -> AsyncIterator[Callable[[], EventLog]]:
    """Yield what opens a log of two partitions or more; all that was opened is closed at the end."""
    opened: list[EventLog] = []

    def open_log() -> EventLog:
        if kind == "sqlite":
            opened.append(SqliteEventLog(folder / "log.sqlite", partitions=2))
        else:
            topics = declared(partitions=2, replication=1)
            opened.append(KafkaEventLog(KafkaConnection(bootstrap()), topics))
        return opened[-1]

    yield open_log
    for log in opened:
        await log.aclose()


async def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something blocking to ask holds, asking off the loop.

    Raises:
        TimeoutError: it does not.

    """
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the store does not call back
            await asyncio.sleep(0.05)
