"""The log as everything else sees it: append chunks, subscribe, commit with metadata.

A backend keeps, per topic and partition, an ordered sequence of immutable messages with gapless offsets from 0.
`tests/contract/test_eventlog.py` is what a backend must pass.

Delivery: an append that returned is durable against a crash of any process. Its records stand in their partitions in
the order given, but an append is not atomic: one that raised may have stored some of its records (on SQLite it stores
all or none, on Kafka the partitions' batches are acknowledged one by one), and one that is repeated may store them
again. Whoever repeats appends gives each record a name of its own, by which readers drop the second (`ce_source`,
`ce_type`, `ce_sequence` of chunks). Messages of one partition come in offset order; offsets below the retention limit
are gone. A subscription is one member of a consumer group. The group is
fenced by a generation: once another member took a partition over, every commit of the old owner raises `FencedError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable


class EventLogError(Exception):
    """Base of everything the log raises. The message says what is wrong, where, and what to do."""


class FencedError(EventLogError):
    """This member no longer owns the partition; drop all work on it and rejoin."""


class LogUnavailableError(EventLogError):
    """The log cannot be reached or written at present; the call may be repeated."""


class RefusedError(EventLogError):
    """The log takes everything but one of these records, and never will take that; append the others without it."""


class OffsetOutOfRangeError(EventLogError):
    """The offset asked for was deleted by retention (or never existed)."""

    def __init__(self, where: TopicPartition, wanted: int, first: int, end: int) -> None:
        """`first` and `end` bound what is kept: `[first, end)`."""
        super().__init__(f"{where} offset {wanted} is not in the log, which keeps [{first}, {end}) there")
        self.where, self.wanted, self.first, self.end = where, wanted, first, end


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One ordered sequence of messages."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """`topic[partition]`."""
        return f"{self.topic}[{self.partition}]"


@dataclass(frozen=True, slots=True)
class Record:
    """A message to append. `headers` follow CloudEvents' Kafka binding (names `ce_…`, `content-type`)."""

    where: TopicPartition
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it stands in the log. `appended_ns` is UTC nanoseconds by the log's clock."""

    where: TopicPartition
    offset: int
    value: bytes
    headers: Mapping[str, str]
    key: bytes | None
    appended_ns: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's position: `offset` is the next message to take; `metadata` is the committer's own note."""

    offset: int
    metadata: str = ""


class Subscription(Protocol):
    """One member of a consumer group, reading the partitions it was assigned."""

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions this member owns now. It may change between fetches; see `generation`."""

    @property
    def generation(self) -> int:
        """Grows whenever the assignment changes hands. A range planned in another generation must be dropped."""

    async def fetch(self, *, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return the next messages, in offset order per partition, and advance past them.

        Waits at most `timeout_s` when nothing is there and then returns an empty list. Returns at least one message
        if there is one, even if it alone exceeds `max_bytes`. Starts at the committed offset (or the log's start).

        Raises:
            OffsetOutOfRangeError: retention overtook the position.
            LogUnavailableError: the log cannot be reached.

        """

    async def seek(self, where: TopicPartition, offset: int) -> None:
        """Make `offset` the next message that `fetch` returns for an assigned partition."""

    async def commit(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Store positions for the group, durably and atomically per call.

        Raises:
            FencedError: a partition is no longer this member's; nothing was stored.

        """

    async def committed(self, where: TopicPartition) -> Committed | None:
        """Read the group's position and metadata back, or None if nothing was ever committed."""

    async def aclose(self) -> None:
        """Leave the group. Uncommitted work is for the next owner."""

    async def __aenter__(self) -> Self:
        """Join the group."""

    async def __aexit__(self, *_: object) -> None:
        """Leave the group."""


@runtime_checkable
class EventLog(Protocol):
    """A durable, partitioned, append-only log. Safe to use from one asyncio event loop."""

    async def append(self, records: Sequence[Record]) -> list[int]:
        """Append all records, in their order per partition, and return their offsets once they are durable.

        Raises:
            LogUnavailableError: not everything is known to be stored; any record may be there or not (nothing is, on
                SQLite). The caller may append again, and what was there is there twice then.
            RefusedError: one of the records is none that the log ever takes, for instance too large; of the others
                any may be stored or not.

        """

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic; equal for all topics of one log."""

    async def bounds(self, where: TopicPartition) -> tuple[int, int]:
        """Return `(first, end)`: the oldest offset kept and the offset the next append gets."""

    async def read(self, where: TopicPartition, offset: int, *, max_bytes: int) -> list[Message]:
        """Read messages from an offset without joining a group; empty at the end of the log.

        Raises:
            OffsetOutOfRangeError: the offset is outside `[first, end]`.

        """

    def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        """Return a member of `group` for all partitions of `topics`; enter it to join."""

    async def aclose(self) -> None:
        """Release everything held. Appends that returned stay durable."""
