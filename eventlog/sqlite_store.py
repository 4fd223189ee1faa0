"""What the SQLite log does inside the file: append, retain, read. Blocking; one transaction each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventlog.port import Message, OffsetOutOfRangeError, Record, TopicPartition
from eventlog.sqlite_db import reading, writing

_RETAIN_AT_MOST: Final = 1_000
"""Messages deleted per append, so that a lowered limit does not stall one writer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the log keeps: bytes of messages over all topics, and seconds since their append."""

    max_bytes: int
    max_age_s: float


@dataclass(frozen=True, slots=True)
class Stream:
    """One topic-partition's row: `[first, end)` are the offsets kept. `row` is None before the first append."""

    row: int | None
    first: int
    end: int


def append(connection: sqlite3.Connection, records: Sequence[Record], now_ns: int, limits: Limits) -> list[int]:
    """Append all records and delete what is over the limits, in one transaction; return the offsets.

    Nothing of this call's own records is deleted, however small the limits are.
    """
    with writing(connection):
        last = connection.execute("SELECT id, appended_ns FROM messages ORDER BY id DESC LIMIT 1").fetchone()
        last_row, last_ns = last or (0, 0)
        now_ns = max(now_ns, last_ns)  # offsets and times agree even if the clock steps back
        offsets = [_insert(connection, record, now_ns) for record in records]
        _retain(connection, last_row, now_ns, limits)
    return offsets


def _insert(connection: sqlite3.Connection, record: Record, now_ns: int) -> int:
    headers = json.dumps(dict(record.headers), ensure_ascii=False, separators=(",", ":"))
    size = len(record.value) + len(headers) + len(record.key or b"")
    stream, offset = connection.execute(
        "INSERT INTO streams (topic, partition, next, bytes) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (topic, partition) DO UPDATE SET next = next + 1, bytes = bytes + excluded.bytes"
        " RETURNING id, next - 1",
        (record.where.topic, record.where.partition, size),
    ).fetchone()
    connection.execute(
        "INSERT INTO messages (stream, offset, bytes, appended_ns, key, headers, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (stream, offset, size, now_ns, record.key, headers, record.value),
    )
    return int(offset)


def _retain(connection: sqlite3.Connection, up_to_row: int, now_ns: int, limits: Limits) -> None:
    """Delete the oldest whole messages, at most up to a row, until the log is within its limits."""
    (total,) = connection.execute("SELECT sum(bytes) FROM streams").fetchone()
    oldest_ns = now_ns - int(limits.max_age_s * 1e9)
    last = None
    gone: dict[int, tuple[int, int]] = {}  # stream -> (new first offset, bytes)
    for row, stream, offset, size, appended_ns in connection.execute(
        "SELECT id, stream, offset, bytes, appended_ns FROM messages WHERE id <= ? ORDER BY id LIMIT ?",
        (up_to_row, _RETAIN_AT_MOST),
    ):
        if total <= limits.max_bytes and appended_ns >= oldest_ns:
            break
        last, total = row, total - size
        gone[stream] = (offset + 1, gone.get(stream, (0, 0))[1] + size)
    if last is not None:
        connection.execute("DELETE FROM messages WHERE id <= ?", (last,))
        connection.executemany(
            "UPDATE streams SET first = ?, bytes = bytes - ? WHERE id = ?",
            [(first, size, stream) for stream, (first, size) in gone.items()],
        )


def drop(connection: sqlite3.Connection, where: TopicPartition, before: int) -> None:
    """Delete a stream's messages before an offset, whatever the limits say."""
    with writing(connection):
        kept = stream(connection, where)
        if kept.row is None or before <= kept.first:
            return
        (gone,) = connection.execute(
            "SELECT coalesce(sum(bytes), 0) FROM messages WHERE stream = ? AND offset < ?", (kept.row, before)
        ).fetchone()
        connection.execute("DELETE FROM messages WHERE stream = ? AND offset < ?", (kept.row, before))
        connection.execute("UPDATE streams SET first = ?, bytes = bytes - ? WHERE id = ?", (before, gone, kept.row))


def size(connection: sqlite3.Connection) -> int:
    """Return the bytes of all messages kept."""
    (total,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM streams").fetchone()
    return int(total)


def stream(connection: sqlite3.Connection, where: TopicPartition) -> Stream:
    """Look one topic-partition up; nothing was ever appended to an unknown one."""
    found = connection.execute(
        "SELECT id, first, next FROM streams WHERE topic = ? AND partition = ?", (where.topic, where.partition)
    ).fetchone()
    return Stream(*found) if found else Stream(None, 0, 0)


def read(connection: sqlite3.Connection, where: TopicPartition, offset: int, max_bytes: int) -> list[Message]:
    """Read messages from an offset, at least one if there is one, then as many as fit into `max_bytes` of values."""
    with reading(connection):
        return messages(connection, where, offset, max_bytes, at_least_one=True)


def messages(
    connection: sqlite3.Connection, where: TopicPartition, offset: int, max_bytes: int, *, at_least_one: bool
) -> list[Message]:
    """Return the messages from an offset whose values fit into `max_bytes`, within the caller's transaction.

    Raises:
        OffsetOutOfRangeError: the offset is outside `[first, end]`.

    """
    kept = stream(connection, where)
    if not kept.first <= offset <= kept.end:
        raise OffsetOutOfRangeError(where, offset, kept.first, kept.end)
    if offset == kept.end:
        return []
    # Sizes come first, by a query of their own: length() looks at a row's header and leaves its value on the disk.
    sizes = connection.execute(
        "SELECT offset, length(value) FROM messages WHERE stream = ? AND offset >= ? ORDER BY offset",
        (kept.row, offset),
    )
    end, taken = offset, 0
    for at, size in sizes:
        taken += size
        if taken > max_bytes and not (at == offset and at_least_one):
            break
        end = at + 1
    sizes.close()
    rows = connection.execute(
        "SELECT offset, appended_ns, key, headers, value FROM messages"
        " WHERE stream = ? AND offset >= ? AND offset < ? ORDER BY offset",
        (kept.row, offset, end),
    )
    return [
        Message(where, at, value, json.loads(headers), key, appended_ns)
        for at, appended_ns, key, headers, value in rows
    ]
