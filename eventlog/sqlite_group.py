"""Consumer groups of the SQLite log: one member at a time, the newest; the others are fenced.

The file keeps a generation per group. Joining increases it; every commit compares it within its own transaction, so a
member that was superseded cannot move the group's position, however late it notices.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from eventlog.port import Committed, FencedError, Message, TopicPartition
from eventlog.sqlite_db import reading, writing
from eventlog.sqlite_store import messages, stream

if TYPE_CHECKING:
    from eventlog.sqlite import SqliteEventLog

_POLL_S: Final = 0.04
"""How often a waiting fetch looks whether the file has changed."""


class SqliteSubscription:
    """One member of a consumer group; implements `eventlog.port.Subscription`.

    The member that joined last owns all partitions. When it leaves, a member that it had superseded takes over at its
    next `fetch`; when it is killed, whoever joins next does.
    """

    def __init__(self, log: SqliteEventLog, group: str, topics: Sequence[str]) -> None:
        """Made by `SqliteEventLog.subscribe`; enter it to join."""
        self._log = log
        self._group = group
        self._topics = tuple(dict.fromkeys(topics))
        self._generation = 0
        self._assignment: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._turn = 0
        self._empty_at: tuple[int, ...] | None = None
        self._left = True

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """All partitions of the topics, or none while another member owns them."""
        return self._assignment

    @property
    def generation(self) -> int:
        """The group's generation as this member knows it."""
        return self._generation

    async def __aenter__(self) -> Self:
        """Join the group and take its partitions over."""
        await self._log.call(self._join)
        self._left = False
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the group."""
        await self.aclose()

    async def aclose(self) -> None:
        """Leave the group. Uncommitted work is for the next owner."""
        if not self._left:
            self._left = True
            await self._log.call(self._leave)

    async def fetch(self, *, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return the next messages, as the port says. A superseded member gets none."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self._log.call(lambda connection: self._fetch(connection, max_bytes))
            if found:
                for message in found:
                    self._positions[message.where] = message.offset + 1
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return []
            await asyncio.sleep(min(_POLL_S, left_s))

    async def seek(self, where: TopicPartition, offset: int) -> None:
        """Make `offset` the next message that `fetch` returns for an assigned partition.

        Raises:
            FencedError: the partition is not this member's.

        """
        if where not in self._assignment:
            raise self._fenced(where)
        self._positions[where] = offset
        self._empty_at = None

    async def commit(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Store positions for the group, all or none, if this member is still its owner."""
        await self._log.call(lambda connection: self._commit(connection, positions))

    async def committed(self, where: TopicPartition) -> Committed | None:
        """Read the group's position and metadata back, or None if nothing was ever committed."""
        return await self._log.call(lambda connection: self._committed(connection, where))

    def _join(self, connection: sqlite3.Connection) -> None:
        with writing(connection):
            (self._generation,) = connection.execute(
                "INSERT INTO members VALUES (?, 1, 1)"
                " ON CONFLICT DO UPDATE SET generation = generation + 1, present = 1 RETURNING generation",
                (self._group,),
            ).fetchone()
            (partitions,) = connection.execute("SELECT partitions FROM log").fetchone()
        self._positions.clear()
        self._assignment = frozenset(TopicPartition(t, p) for t in self._topics for p in range(partitions))

    def _leave(self, connection: sqlite3.Connection) -> None:
        self._assignment = frozenset()
        with writing(connection):
            connection.execute(
                "UPDATE members SET present = 0 WHERE group_name = ? AND generation = ?",
                (self._group, self._generation),
            )

    def _owns(self, connection: sqlite3.Connection) -> bool:
        """Compare generations within a transaction; a member that was superseded gives everything up."""
        (generation,) = connection.execute(
            "SELECT generation FROM members WHERE group_name = ?", (self._group,)
        ).fetchone() or (0,)
        if generation != self._generation:
            self._generation = generation
            self._assignment = frozenset()
            self._positions.clear()
        return bool(self._assignment)

    def _fetch(self, connection: sqlite3.Connection, max_bytes: int) -> list[Message]:
        if self._left:
            raise FencedError(f"a member of group {self._group} fetched without having joined; enter the subscription")
        state = _state(connection)
        if state == self._empty_at:
            return []
        with reading(connection):
            if self._owns(connection):
                found = self._next(connection, max_bytes)
                self._empty_at = None if found else state
                return found
            (present,) = connection.execute(
                "SELECT present FROM members WHERE group_name = ?", (self._group,)
            ).fetchone() or (0,)
        if not present:
            self._join(connection)
        return []

    def _next(self, connection: sqlite3.Connection, max_bytes: int) -> list[Message]:
        order = sorted(self._assignment)
        self._turn = (self._turn + 1) % len(order)  # every partition is the first one in its turn
        found: list[Message] = []
        left = max_bytes
        for where in order[self._turn :] + order[: self._turn]:
            position = self._positions.get(where)
            if position is None:
                committed = self._committed(connection, where)
                position = committed.offset if committed else stream(connection, where).first
                self._positions[where] = position
            more = messages(connection, where, position, left, at_least_one=not found)
            left -= sum(len(message.value) for message in more)
            found += more
        return found

    def _commit(self, connection: sqlite3.Connection, positions: Mapping[TopicPartition, Committed]) -> None:
        with writing(connection):
            owned = self._owns(connection)
            for where, committed in positions.items():
                if not owned or where not in self._assignment:
                    raise self._fenced(where)
                connection.execute(
                    "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET offset = excluded.offset, metadata = excluded.metadata",
                    (self._group, where.topic, where.partition, committed.offset, committed.metadata),
                )

    def _committed(self, connection: sqlite3.Connection, where: TopicPartition) -> Committed | None:
        found = connection.execute(
            "SELECT offset, metadata FROM positions WHERE group_name = ? AND topic = ? AND partition = ?",
            (self._group, where.topic, where.partition),
        ).fetchone()
        return Committed(*found) if found else None

    def _fenced(self, where: TopicPartition) -> FencedError:
        owner = f"another member of group {self._group} has taken over (generation {self._generation})"
        return FencedError(f"{where} is not this member's: {owner}; drop the work on it and fetch again")


def _state(connection: sqlite3.Connection) -> tuple[int, ...]:
    """What changes when anything in the file does: by others (SQLite's data version) or by this connection."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return id(connection), version, connection.total_changes
