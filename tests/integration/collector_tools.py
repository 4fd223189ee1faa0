"""What tests of the collector share: a store in a process of its own, and logs of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client

from bench.faults.oracle import ROLLUPS, differences
from collector import CollectorConfig, migrate, store_clients
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.port import Committed, EventLog, TopicPartition
from eventlog.schema import FACTS
from eventlog.sqlite import SqliteEventLog
from eventlog.topics import declared
from sidetone.store.process import StoreProcess

__all__ = [
    "Store",
    "committed",
    "differences",
    "empty",
    "from_here",
    "migrated_store",
    "opened_log",
    "running_store",
    "until",
]


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


@contextmanager
def migrated_store(folder: Path) -> Iterator[Store]:
    """Run the embedded store with all tables made."""
    with running_store(folder) as running:
        migrate(running.client())
        yield running


def empty(client: Client) -> None:
    """Remove every row; the tables stay."""
    for table in [*(fact.table for fact in FACTS.values()), *ROLLUPS, "chunks", "rebuilds"]:
        client.command(f"TRUNCATE TABLE sidetone.{table}")


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


async def committed(log: EventLog, config: CollectorConfig, timeout_s: float = 60.0) -> None:
    """Wait until a group's positions are at the log's present ends and no range is open.

    Raises:
        TimeoutError: they are not.

    """
    member = log.subscribe(config.group, config.topics)  # positions can be read without joining
    try:
        async with asyncio.timeout(timeout_s):
            for topic in config.topics:
                for where in [TopicPartition(topic, number) for number in range(await log.partitions(topic))]:
                    _, end = await log.bounds(where)
                    while end and await member.committed(where) != Committed(end):  # noqa: ASYNC110 - nothing tells
                        await asyncio.sleep(0.02)
    finally:
        await member.aclose()


async def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something blocking to ask holds, asking off the loop.

    Raises:
        TimeoutError: it does not.

    """
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the store does not call back
            await asyncio.sleep(0.05)
