"""Facts that wait to become chunks: bounded, cheap to add to, every row accounted for.

Rows wait in blocks, per fact type in the order of their capture. When the bound is reached the oldest block of the type
with the most rows goes, so that a flood of packets does not push out the few turns. Each type's account always adds up:
`captured == emitted + spooled + sum(shed) + held`.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from eventlog.schema import FACTS, FactType

Row: TypeAlias = tuple[bytes, str, int, Mapping[str, object]]
"""Session, region, observed_ns, and the type's own columns by name."""

_BLOCK_ROWS: Final = 4_096


@dataclass(slots=True)
class Block:
    """Rows that wait together: single rows, or the columns of all of them at once."""

    size: int
    rows: list[Row] | None = None
    columns: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the facts of one type since the producer started, in rows.

    Attributes:
        captured: handed to the emitter.
        emitted: in the log, acknowledged.
        spooled: waiting on disk for the log to return.
        shed: never emitted, by reason.

    """

    captured: int = 0
    emitted: int = 0
    spooled: int = 0
    shed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    """One fact type's queue and counts. `held` rows are queued or on their way to the log."""

    queue: deque[Block] = field(default_factory=deque)
    queued: int = 0
    held: int = 0
    captured: int = 0
    emitted: int = 0
    spooled: int = 0
    shed: Counter[str] = field(default_factory=Counter)


class Backlog:
    """Thread-safe and bounded. Adding takes a lock for well under a microsecond and never waits for the log."""

    def __init__(self, max_rows: int) -> None:
        """Hold at most `max_rows` rows, those on their way to the log included, those on disk not."""
        self.overflow = "backlog_full"
        """Why rows are shed when the bound is reached."""
        self._lock = threading.Lock()
        self._max_rows = max_rows
        self._block_rows = max(1, min(_BLOCK_ROWS, max_rows // 16))
        self._held = 0
        self._refusal: str | None = None
        self._final = False
        self._lines = {name: _Line() for name in FACTS}

    @property
    def held(self) -> int:
        """Rows queued or on their way."""
        return self._held

    def queued(self) -> dict[str, int]:
        """Return the rows that wait to be taken, per fact type."""
        with self._lock:
            return {name: line.queued for name, line in self._lines.items()}

    def add_row(self, fact: FactType, row: Row) -> None:
        """Queue one row."""
        with self._lock:
            line = self._lines[fact.name]
            if self._refusal is not None:
                _lose(line, self._refusal, 1)
                return
            tail = line.queue[-1] if line.queue else None
            if tail is None or tail.rows is None or tail.size >= self._block_rows:
                tail = Block(0, rows=[])
                line.queue.append(tail)
            if tail.rows is not None:
                tail.rows.append(row)
            tail.size += 1
            self._count(line, 1)

    def add_columns(self, fact: FactType, columns: Mapping[str, object], rows: int) -> None:
        """Queue `rows` rows as one block, which is emitted or shed as a whole."""
        with self._lock:
            line = self._lines[fact.name]
            if self._refusal is not None:
                _lose(line, self._refusal, rows)
                return
            line.queue.append(Block(rows, columns=columns))
            self._count(line, rows)

    def take(self, fact: FactType, at_most: int) -> list[Block]:
        """Take the oldest blocks of a type for sending: at least one if there is one, else up to `at_most` rows.

        The rows stay held until `settle` says what became of them.
        """
        with self._lock:
            line, taken, blocks = self._lines[fact.name], 0, list[Block]()
            while line.queue and (not blocks or taken + line.queue[0].size <= at_most):
                blocks.append(line.queue.popleft())
                taken += blocks[-1].size
            line.queued -= taken
            return blocks

    def settle(
        self, fact: FactType, *, emitted: int = 0, spooled: int = 0, shed: Mapping[str, int] | None = None
    ) -> None:
        """Say what became of rows that were taken."""
        with self._lock:
            if not self._final:
                line = self._lines[fact.name]
                line.spooled += spooled
                line.held -= spooled
                self._held -= spooled
                self._settle(line, emitted, shed or {})

    def settle_spooled(self, fact: FactType, *, emitted: int = 0, shed: Mapping[str, int] | None = None) -> None:
        """Say what became of rows that were spooled."""
        with self._lock:
            if not self._final:
                line = self._lines[fact.name]
                line.emitted += emitted
                line.shed.update({reason: rows for reason, rows in (shed or {}).items() if rows})
                line.spooled -= emitted + sum((shed or {}).values())

    def hold(self, fact: FactType, rows: int) -> None:
        """Count rows as captured and taken at once, for facts that the emitter makes itself."""
        with self._lock:
            line = self._lines[fact.name]
            line.captured += rows
            line.held += rows
            self._held += rows

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Count rows as captured and shed at once, for facts that were lost before they could be added."""
        with self._lock:
            _lose(self._lines[fact.name], reason, rows)

    def refuse(self, reason: str) -> None:
        """From now on shed whatever is added, for this reason. What is queued stays."""
        with self._lock:
            self._refusal = reason

    def shed_queued(self, reason: str) -> None:
        """Give up all that is queued."""
        with self._lock:
            for line in self._lines.values():
                line.queue.clear()
                self._settle(line, 0, {reason: line.queued})
                line.queued = 0

    def abandon(self, reason: str, later: str) -> None:
        """Give up all that is held, even what is on its way, and whatever is added `later`. The accounts are final.

        What is on disk stays there, for the next start.
        """
        with self._lock:
            self._refusal = later
            for line in self._lines.values():
                line.queue.clear()
                line.queued = 0
                self._settle(line, 0, {reason: line.held})
            self._final = True

    def accounts(self) -> dict[str, Account]:
        """Return the account of every fact type, all as of one moment."""
        with self._lock:
            return {
                name: Account(line.captured, line.emitted, line.spooled, dict(line.shed))
                for name, line in self._lines.items()
            }

    def _count(self, line: _Line, rows: int) -> None:
        line.captured += rows
        line.held += rows
        line.queued += rows
        self._held += rows
        while self._held > self._max_rows:
            fullest = max(self._lines.values(), key=lambda other: other.queued)
            if not fullest.queue:
                return  # all that is held is on its way; `take` bounds that
            self._shed_oldest(fullest, self.overflow)

    def _shed_oldest(self, line: _Line, reason: str) -> None:
        block = line.queue.popleft()
        line.queued -= block.size
        self._settle(line, 0, {reason: block.size})

    def _settle(self, line: _Line, emitted: int, shed: Mapping[str, int]) -> None:
        line.emitted += emitted
        line.shed.update({reason: rows for reason, rows in shed.items() if rows})
        rows = emitted + sum(shed.values())
        line.held -= rows
        self._held -= rows


def _lose(line: _Line, reason: str, rows: int) -> None:
    line.captured += rows
    line.shed.update({reason: rows})
