"""Chunks on disk while the log is away: one file per producer, in the order of their making.

A spool is a log of its own in one SQLite file, from which what reached the real log is deleted. The file is locked for
the life of its producer, by a lock that the system frees however the process ends; a file whose lock is free was left
behind, and the next producer of the same folder drains it. Its chunks keep their names (`ce_source`, `ce_sequence`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import crc32c

from eventlog import sqlite_store
from eventlog.cloudevents import parse
from eventlog.codec import ChunkError
from eventlog.port import LogUnavailableError, Message, Record, TopicPartition
from eventlog.schema import BY_CE_TYPE, FactType
from eventlog.sqlite import SqliteEventLog
from eventlog.sqlite_db import LogCorruptError

_logger = logging.getLogger(__name__)

_STREAM: Final = TopicPartition("spool", 0)
_TOPIC: Final = "spool-topic"
_PARTITION: Final = "spool-partition"
_SUFFIX: Final = ".sqlite"
_UNLIMITED: Final = 1 << 62
_FOREVER_S: Final = 1e9
_PARTITIONS_FILE: Final = "partitions"
_DAMAGED: Final = ".damaged"
DAMAGED_AT_MOST: Final = 8
"""Damaged spools kept for a person to look at: a disk that fails would fill itself with them."""


@dataclass(slots=True)
class Chunk:
    """A chunk with its final name, which it keeps however often it is sent.

    Attributes:
        fact: what its rows are; None if a spool does not say so any more.
        rows: how many.
        record: as the log takes it; None if the spool holds something else than was put there.

    """

    fact: FactType | None
    rows: int
    record: Record | None

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.record.value) if self.record is not None else 0


class Spool:
    """One file. `first` and `end` are the positions held, `[first, end)`; `bytes` what they take."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.first = self.end = self.bytes = 0
        self._lock = lock
        self._log = SqliteEventLog(path, max_bytes=_UNLIMITED, max_age_s=_FOREVER_S)

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to send."""
        return self.first == self.end

    async def open(self) -> Self:
        """Read what the file holds.

        Raises:
            LogCorruptError: it is damaged.
            LogUnavailableError: it cannot be read now.

        """
        if self.path.exists() and not self.path.stat().st_size:
            raise LogCorruptError(f"spool {self.path} was cut to nothing")  # SQLite would take it for a new one
        await self._look()
        return self

    async def put(self, chunks: Sequence[Chunk]) -> None:
        """Store chunks at the end, all or none.

        Raises:
            LogUnavailableError: the disk does not take them.
            EventLogError: the file is damaged.

        """
        records = [
            Record(
                _STREAM,
                record.value,
                {**record.headers, _TOPIC: record.where.topic, _PARTITION: str(record.where.partition)},
                record.key,
            )
            for record in (chunk.record for chunk in chunks)
            if record is not None
        ]
        await self._log.append(records)
        await self._look()

    async def read(self, position: int, max_bytes: int) -> list[Chunk]:
        """Return the chunks from a position, at least one; each takes one position, damaged ones too.

        Raises:
            EventLogError: the file is damaged, or cannot be read.

        """
        return [_chunk(message) for message in await self._log.read(_STREAM, position, max_bytes=max_bytes)]

    async def drop(self, before: int) -> None:
        """Forget the chunks before a position.

        Raises:
            EventLogError: the file is damaged, or cannot be written.

        """
        await self._log.call(lambda connection: sqlite_store.drop(connection, _STREAM, before))
        await self._look()

    async def aclose(self) -> None:
        """Close the file and let go of it; an empty one is removed."""
        await self._log.aclose()
        if self.empty:
            for path in self._files():
                path.unlink(missing_ok=True)
            _lock_file(self.path).unlink(missing_ok=True)
        os.close(self._lock)

    async def set_aside(self) -> Path:
        """Move a damaged file out of the way, for a person to look at, and let go of it; return where it is."""
        await self._log.aclose()
        aside = self.path.with_name(f"{self.path.name}{_DAMAGED}")
        for path in self._files():
            with contextlib.suppress(OSError):
                path.rename(path.with_name(path.name.replace(self.path.name, aside.name)))
        _lock_file(self.path).unlink(missing_ok=True)
        os.close(self._lock)
        return aside

    def _files(self) -> list[Path]:
        return [self.path.with_name(self.path.name + ending) for ending in ("", "-wal", "-shm")]

    async def _look(self) -> None:
        self.first, self.end = await self._log.bounds(_STREAM)
        self.bytes = await self._log.call(sqlite_store.size)


class SpoolFolder:
    """The spools of one role's producers, one after another.

    Args:
        folder: made if need be, private to the user.
        max_bytes: of chunks in all spools of the folder.

    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def create(self) -> Spool:
        """Return a new spool, locked.

        Raises:
            LogUnavailableError: the folder cannot be made or written.

        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                path = self.folder / f"{uuid.uuid4()}{_SUFFIX}"
                lock = _locked(path)
                if lock is not None:  # nobody looked for leftovers just now
                    return Spool(path, lock)
        except OSError as error:
            raise LogUnavailableError(
                f"nothing can be spooled in {self.folder} ({error.strerror}); make it writable"
            ) from error

    def left_behind(self) -> list[Spool]:
        """Return the spools that no living producer holds, oldest first, locked."""
        found: list[Spool] = []
        try:
            paths = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
            for path in paths:
                lock = _locked(path)
                if lock is not None:
                    found.append(Spool(path, lock))
        except OSError as error:
            _logger.warning("spools in %s cannot be looked for: %s", self.folder, error)
        return found

    def delete_damaged(self) -> int:
        """Delete the oldest damaged spools beyond `DAMAGED_AT_MOST`, or beyond `max_bytes`; return how many.

        What cannot be deleted is left.
        """
        try:
            spools = sorted(
                (max(file.stat().st_mtime_ns for file in files), sum(file.stat().st_size for file in files), files)
                for files in self._damaged().values()
            )
            size, gone = sum(taken for _, taken, _ in spools), 0
            for _, taken, files in spools:
                if len(spools) - gone <= DAMAGED_AT_MOST and size <= self.max_bytes:
                    break
                for file in files:
                    file.unlink(missing_ok=True)
                size, gone = size - taken, gone + 1
        except OSError as error:
            _logger.warning("damaged spools in %s cannot be deleted: %s", self.folder, error)
            return 0
        return gone

    def _damaged(self) -> dict[str, list[Path]]:
        """Return the files of each damaged spool."""
        found: dict[str, list[Path]] = {}
        for file in self.folder.glob(f"*{_SUFFIX}{_DAMAGED}*"):
            found.setdefault(file.name.partition(_DAMAGED)[0], []).append(file)
        return found

    @property
    def partitions(self) -> int | None:
        """Partitions of the log as they were last known, None if they never were."""
        try:
            return int((self.folder / _PARTITIONS_FILE).read_text())
        except (OSError, ValueError):
            return None

    def remember_partitions(self, partitions: int) -> None:
        """Keep the number for a start at which the log is away."""
        if self.partitions != partitions:
            with contextlib.suppress(OSError):  # a start without the log will then wait for it, in memory
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fresh = self.folder / f".{_PARTITIONS_FILE}-{uuid.uuid4()}"
                fresh.write_text(str(partitions))
                fresh.replace(self.folder / _PARTITIONS_FILE)


def _lock_file(path: Path) -> Path:
    # Not the spool itself: closing any descriptor of it would free SQLite's own locks.
    return path.with_suffix(".lock")


def _locked(path: Path) -> int | None:
    """Lock a spool's lock file; None if another process has it, or removed it meanwhile."""
    lock = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _lock_file(path).stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _chunk(message: Message) -> Chunk:
    """Return a message of a spool as the chunk that it was, with no record if it is not what was put there."""
    headers = dict(message.headers)
    topic, partition = headers.pop(_TOPIC, ""), headers.pop(_PARTITION, "")
    try:
        header = parse(headers)
    except ChunkError:
        return Chunk(None, 0, None)
    fact = BY_CE_TYPE.get(header.type)
    if crc32c.crc32c(message.value) != header.crc32c or not topic or not partition.isdecimal():
        return Chunk(fact, header.rows, None)
    return Chunk(fact, header.rows, Record(TopicPartition(topic, int(partition)), message.value, headers, message.key))
