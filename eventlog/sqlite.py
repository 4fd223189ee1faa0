"""The event log in one SQLite file, for one machine with nothing to install.

Several processes may write and read it at once (WAL mode); one `append` is one transaction. What survives: an append
that returned is kept when any process is killed, this one included. When the *machine* loses power, the appends since
the last checkpoint (at most about 32 MB of the newest messages) may be lost as a whole tail, and the file stays sound:
that is SQLite's `synchronous=NORMAL`, without a disk flush per append.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from eventlog import sqlite_store
from eventlog.port import EventLogError, LogUnavailableError, Message, Record, TopicPartition
from eventlog.sqlite_db import connect, errors
from eventlog.sqlite_group import SqliteSubscription

MAX_BYTES: Final = 4 << 30
"""Messages kept by default, in bytes over all topics."""

MAX_AGE_S: Final = 7 * 86_400.0
"""Messages kept by default, in seconds since their append."""

_T = TypeVar("_T")


class SqliteEventLog:
    """Implements `eventlog.port.EventLog` on a file that any number of processes may have open.

    The file is opened at the first call, and again after it was unavailable, so making the object never fails. SQLite
    blocks, therefore every call runs in a thread that belongs to the object. Limits are applied at every append: the
    oldest whole messages go first, whichever topic they are of. The file itself stays at about `max_bytes` and the
    write-ahead log beside it.

    Args:
        path: the file; its folder must exist.
        partitions: per topic, if this call makes the file; afterwards the file's own number holds.
        max_bytes: messages kept, in bytes over all topics.
        max_age_s: messages kept, in seconds since their append.

    """

    def __init__(
        self, path: Path | str, *, partitions: int = 1, max_bytes: int = MAX_BYTES, max_age_s: float = MAX_AGE_S
    ) -> None:
        if partitions < 1:
            raise ValueError(f"a topic has at least one partition, not {partitions}")
        self._path = Path(path)
        self._partitions = partitions
        self._limits = sqlite_store.Limits(max_bytes, max_age_s)
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eventlog-sqlite")
        self._closed = False

    async def append(self, records: Sequence[Record]) -> list[int]:
        """Append all records in one transaction, or none, and return their offsets."""
        if not records:
            return []
        batch = list(records)

        def work(connection: sqlite3.Connection) -> list[int]:
            partitions = self._count(connection)
            for record in batch:
                self._check(record.where, partitions)
            return sqlite_store.append(connection, batch, time.time_ns(), self._limits)

        return await self.call(work)

    async def partitions(self, topic: str) -> int:  # noqa: ARG002 - the port asks per topic
        """Return the number of partitions, which the file was made with, the same for every topic."""
        return await self.call(self._count)

    async def bounds(self, where: TopicPartition) -> tuple[int, int]:
        """Return `(first, end)`; `(0, 0)` before the first append."""

        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            self._check(where, self._count(connection))
            kept = sqlite_store.stream(connection, where)
            return kept.first, kept.end

        return await self.call(work)

    async def read(self, where: TopicPartition, offset: int, *, max_bytes: int) -> list[Message]:
        """Read messages from an offset without joining a group, at least one if there is one."""

        def work(connection: sqlite3.Connection) -> list[Message]:
            self._check(where, self._count(connection))
            return sqlite_store.read(connection, where, offset, max_bytes)

        return await self.call(work)

    def subscribe(self, group: str, topics: Sequence[str]) -> SqliteSubscription:
        """Return a member of `group` for all partitions of `topics`; enter it to join."""
        return SqliteSubscription(self, group, topics)

    async def aclose(self) -> None:
        """Close the file. Calls after this raise `EventLogError`."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    async def call(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a job of this package on the file, in the log's thread. Jobs run one after another.

        Raises:
            LogUnavailableError: the file cannot be used now.
            EventLogError: the log is closed, damaged, or the job failed.

        """
        if self._closed:
            raise EventLogError(f"event log {self._path} is closed; open it again")
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._run, work))

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._connection is None:
            self._connection = connect(self._path, self._partitions)
        try:
            with errors(self._path):
                return work(self._connection)
        except LogUnavailableError:
            self._disconnect()  # the file may have been replaced; the next call opens what is there then
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _count(self, connection: sqlite3.Connection) -> int:
        (partitions,) = connection.execute("SELECT partitions FROM log").fetchone()
        return int(partitions)

    def _check(self, where: TopicPartition, partitions: int) -> None:
        if not 0 <= where.partition < partitions:
            raise EventLogError(f"event log {self._path} has no {where}: its topics have {partitions} partitions")
