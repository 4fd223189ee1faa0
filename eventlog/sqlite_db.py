"""The file behind the SQLite log: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from eventlog.port import EventLogError, LogUnavailableError

APPLICATION_ID: Final = 0x51DE7033
"""Marks the file as ours, in SQLite's header."""

FORMAT: Final = 1
"""Version of the tables; SQLite's `user_version`."""

BUSY_S: Final = 5.0
"""How long a writer waits for another process's transaction before the log counts as unavailable."""

_RETRY_S: Final = 0.01

_PAGE_BYTES: Final = 16_384
"""Chunks are tens to hundreds of kilobytes; big pages make their chains short."""

_CHECKPOINT_PAGES: Final = 2_000
_JOURNAL_LIMIT_BYTES: Final = 64 << 20

_TABLES: Final = """
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), partitions INTEGER NOT NULL) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) STRICT;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams,
    offset INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    appended_ns INTEGER NOT NULL,
    key BLOB,
    headers TEXT NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX messages_by_offset ON messages (stream, offset);
CREATE TABLE members (
    group_name TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    present INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (group_name, topic, partition)
) STRICT, WITHOUT ROWID;
"""

_BUSY: Final = "another process has been writing to it for too long; see which processes have it open"
_CLOSED: Final = "it cannot be opened; make sure that its folder exists and is writable"
_REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: "the disk is full; free some space or move the data folder",
    sqlite3.SQLITE_READONLY: "it cannot be written; make the file and its folder writable or choose another folder",
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_IOERR: "its disk fails to read or write; check the disk",
}


class LogCorruptError(EventLogError):
    """The file is damaged or is no Sidetone log. Repeating the call does not help."""


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the port's, naming the file and the remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary result code
        if remedy := _REMEDIES.get(code):
            raise LogUnavailableError(f"event log {path}: {error}: {remedy}") from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            remedy = f"move the file away (with {path.name}-wal and {path.name}-shm) to start a new log"
            raise LogCorruptError(f"event log {path} is damaged: {error}: {remedy}") from error
        raise EventLogError(f"event log {path}: {error}") from error


def connect(path: Path, partitions: int) -> sqlite3.Connection:
    """Open the file, making it and its tables if need be.

    Raises:
        LogUnavailableError: it cannot be opened or written now.
        LogCorruptError: it is damaged, or not a Sidetone log, or of a newer format.

    """
    with errors(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(connection)
            _prepare(connection, path, partitions)
        except BaseException:
            connection.close()
            raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait here for another process that makes the same file, so this does.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _prepare(connection: sqlite3.Connection, path: Path, partitions: int) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT_BYTES}")
    with reading(connection):
        ready = _is_ours(connection, path)
    if not ready:
        with writing(connection):
            if not _is_ours(connection, path):  # no other process was quicker
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO log VALUES (1, ?)", (partitions,))
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether the file has our tables; False if it is empty."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if mark == 0 and tables == 0:
        return False
    if mark != APPLICATION_ID:
        raise LogCorruptError(f"{path} is an SQLite file, but no Sidetone event log; choose another path")
    if version != FORMAT:
        raise LogCorruptError(f"event log {path} has format {version}, this version reads {FORMAT}; upgrade it")
    return True


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run one write transaction; roll it back on any error."""
    connection.execute("BEGIN IMMEDIATE")
    yield from _transaction(connection)


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run one read transaction: all its statements see the same state."""
    connection.execute("BEGIN DEFERRED")
    yield from _transaction(connection)


def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
