"""Planning: whole messages of one partition become a range `[lo, hi]`, and the note that makes it repeatable.

A range is named before any of it is inserted. The name (epoch, partition, bounds) is kept by the log as metadata of the
group's position, so that whoever owns the partition next plans the very same range again and the store can tell
by its token that it has it. Pure: no I/O, time is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from collector.errors import CollectorHaltedError
from eventlog.port import Message, TopicPartition
from eventlog.schema import SCHEMA_VERSION


class IntentError(CollectorHaltedError):
    """The metadata beside a committed offset is not a collector's note. The message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be inserted: messages `lo` to `hi` (both included) of one partition.

    Attributes:
        where: the partition.
        lo: first offset.
        hi: last offset.
        epoch: names the collector run that planned it; offsets of a log that was made anew get other tokens.
        schema_version: of the facts, as the planner understood them.

    """

    where: TopicPartition
    lo: int
    hi: int
    epoch: str
    schema_version: int = SCHEMA_VERSION

    def token(self, part: str) -> str:
        """Return the deduplication token of one inserted block; `part` is its UTC day, or what else tells it apart."""
        return f"{self.epoch}:{self.where.topic}:{self.where.partition}:{self.lo}-{self.hi}:{part}"

    def metadata(self) -> str:
        """Return the note to commit beside offset `lo`."""
        return json.dumps({"hi": self.hi, "epoch": self.epoch, "schema": self.schema_version}, separators=(",", ":"))

    @classmethod
    def from_metadata(cls, where: TopicPartition, lo: int, metadata: str) -> Intent:
        """Read back the note that stands beside committed offset `lo`.

        Raises:
            IntentError: it is no such note, or of a schema that this version does not know.

        """
        try:
            note = json.loads(metadata)
            intent = cls(where, lo, int(note["hi"]), str(note["epoch"]), int(note["schema"]))
        except (ValueError, KeyError, TypeError) as error:
            raise IntentError(
                f"{where} offset {lo} was committed with metadata {metadata!r}, which no collector wrote ({error}). "
                "Another program uses this consumer group; give the collector a group of its own."
            ) from error
        if intent.hi < lo:
            raise IntentError(f"{where} offset {lo} has a pending range that ends before it, at {intent.hi}.")
        if intent.schema_version > SCHEMA_VERSION:
            raise IntentError(
                f"{where} [{lo}, {intent.hi}] was planned with facts of schema version {intent.schema_version}, this "
                f"collector knows {SCHEMA_VERSION}. Start the newer version, which will finish the range."
            )
        return intent


@dataclass(frozen=True, slots=True)
class Range:
    """A closed range: the intent and its messages, in offset order."""

    intent: Intent
    messages: tuple[Message, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the messages' values."""
        return sum(len(message.value) for message in self.messages)


@dataclass(slots=True)
class _Open:
    """Messages of one partition that no intent names yet."""

    opened: float
    messages: list[Message] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0


class Planner:
    """Collects messages per partition and closes ranges by rows, bytes or age.

    What is small waits until it is `max_age_s` old, because an insert costs the same for one row as for thousands; what
    has `ripe_bytes` is worth one and does not wait.

    A partition with a pending intent closes exactly at that intent's `hi` and with its epoch, whatever the limits say
    now: limits may have changed since, the range may not.
    """

    def __init__(self, epoch: str, *, max_rows: int, max_bytes: int, max_age_s: float, ripe_bytes: int) -> None:
        """`epoch` goes into the intents that are planned here."""
        self._epoch = epoch
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._ripe_bytes = ripe_bytes
        self._open: dict[TopicPartition, _Open] = {}
        self._pending: dict[TopicPartition, Intent] = {}
        self._closed: list[Range] = []

    def reset(self, pending: Iterable[Intent] = ()) -> None:
        """Forget every message; `pending` are the ranges that must be closed as they were planned before."""
        self._open.clear()
        self._closed.clear()
        self._pending = {intent.where: intent for intent in pending}

    @property
    def empty(self) -> bool:
        """Whether no message is held."""
        return not self._open and not self._closed

    @property
    def held_bytes(self) -> int:
        """Bytes of the messages held."""
        return sum(held.bytes for held in self._open.values()) + sum(closed.bytes for closed in self._closed)

    def abandon(self, where: TopicPartition) -> Intent | None:
        """Forget the open messages of a partition, and return the pending intent that can no longer be met."""
        self._open.pop(where, None)
        return self._pending.pop(where, None)

    def add(self, messages: Iterable[Message], now: float) -> None:
        """Take fetched messages, in offset order per partition; `now` is monotonic seconds."""
        for message in messages:
            rows = _rows(message)
            held = self._open.get(message.where)
            full = held is not None and (
                held.rows + rows > self._max_rows or held.bytes + len(message.value) > self._max_bytes
            )
            if full and message.where not in self._pending:
                self._close(message.where)
                held = None
            if held is None:
                held = self._open[message.where] = _Open(now)
            held.messages.append(message)
            held.rows += rows
            held.bytes += len(message.value)
            intent = self._pending.get(message.where)
            if intent is not None and message.offset >= intent.hi:
                self._close(message.where)

    def take(self, now: float, *, flush: bool = False) -> list[Range]:
        """Return the ranges closed since the last call, oldest first; `flush` closes every one that has messages.

        A partition may be there more than once; its ranges are to be processed in this order.
        """

        def due(held: _Open) -> bool:
            return flush or held.bytes >= self._ripe_bytes or now - held.opened >= self._max_age_s

        for where in [where for where, held in self._open.items() if where not in self._pending and due(held)]:
            self._close(where)
        closed, self._closed = self._closed, []
        return closed

    def wait_s(self, now: float) -> float:
        """Return the seconds until a range will be closed by age, at most `max_age_s`."""
        ages = [now - held.opened for where, held in self._open.items() if where not in self._pending]
        return max(0.0, self._max_age_s - max(ages, default=0.0))

    def _close(self, where: TopicPartition) -> None:
        messages = tuple(self._open.pop(where).messages)
        intent = self._pending.pop(where, None)
        if intent is None:
            intent = Intent(where, messages[0].offset, messages[-1].offset, self._epoch)
        elif (messages[0].offset, messages[-1].offset) != (intent.lo, intent.hi):
            raise IntentError(
                f"{where} [{intent.lo}, {intent.hi}] is pending, but the log gave [{messages[0].offset}, "
                f"{messages[-1].offset}] for it. The log was changed under the collector; restore it."
            )
        self._closed.append(Range(intent, messages))


def _rows(message: Message) -> int:
    """Return the rows that the header claims; a claim that is no number belongs to a message that will be refused."""
    claim = message.headers.get("rows", "")
    return int(claim) if claim.isascii() and claim.isdigit() and len(claim) < 10 else 0  # noqa: PLR2004 - no chunk has 1e10
