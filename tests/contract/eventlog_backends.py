"""What the contract suite needs of a backend beyond the port; SQLite's is here, Kafka's in `kafka_backend`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from eventlog import EventLog, Record, SqliteEventLog, TopicPartition

PARTITIONS = 2


class Backend(Protocol):
    """One running log, of `PARTITIONS` partitions per topic, that can be opened several times."""

    async def topics(self, count: int) -> Sequence[str]:
        """Return names of topics that are ready and empty."""

    async def open(self) -> EventLog:
        """Open the log; each call is a user of its own."""

    async def trim(self, where: TopicPartition) -> None:
        """Have retention remove some of a partition's messages, the oldest, but not all."""

    async def aclose(self) -> None:
        """Close all that was opened."""


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "log.sqlite"
        self._names = (f"topic.{number}" for number in itertools.count())
        self._opened: list[SqliteEventLog] = []

    async def topics(self, count: int) -> Sequence[str]:
        return list(itertools.islice(self._names, count))

    async def open(self) -> SqliteEventLog:
        self._opened.append(SqliteEventLog(self._path, partitions=PARTITIONS))
        return self._opened[-1]

    async def trim(self, where: TopicPartition) -> None:
        log = await self.open()
        first, end = await log.bounds(where)
        kept = await log.read(where, (first + end + 1) // 2, max_bytes=1 << 30)
        small = SqliteEventLog(self._path, max_bytes=sum(len(message.value) + 100 for message in kept))
        self._opened.append(small)
        await small.append([Record(where, b"the one that is over the limit")])

    async def aclose(self) -> None:
        for log in self._opened:
            await log.aclose()
