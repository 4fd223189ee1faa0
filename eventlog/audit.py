"""What the producers say they emitted, read from the log alone: the source's side of "nothing lost, nothing twice"."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from eventlog.cloudevents import ChunkHeader, open_chunk, parse
from eventlog.codec import ChunkError
from eventlog.port import EventLog, Message, TopicPartition
from eventlog.schema import EMITTER, FACTS, FactType

_READ_BYTES: Final = 8 << 20
_ACCOUNT: Final = ["producer", "fact_type", "captured", "emitted", "spooled", "shed", "final"]


@dataclass(frozen=True, slots=True)
class TypeAudit:
    """One fact type over all producers. Rows and chunks count once, however often a chunk was appended.

    Attributes:
        rows: facts in the log, by the chunks' headers.
        chunks: chunks in the log.
        missing_chunks: gaps in the sequences of the producers: chunks lost before the log, or taken by retention.
        repeated_chunks: copies of chunks that are there already.
        bad_chunks: messages whose headers are unreadable; they count nowhere else.
        accounted_captured: rows that the producers' last accounts say they captured.
        accounted_emitted: rows that they say they emitted, or left on disk for their next start to send.
        shed: rows that they say they shed, by reason.

    """

    rows: int = 0
    chunks: int = 0
    missing_chunks: int = 0
    repeated_chunks: int = 0
    bad_chunks: int = 0
    accounted_captured: int = 0
    accounted_emitted: int = 0
    shed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole log.

    Attributes:
        by_type: all nine fact types by name.
        unfinished: producers (`ce_source`) without a final account: still running, or killed.

    """

    by_type: Mapping[str, TypeAudit]
    unfinished: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every producer ended in order, nothing was shed, and the log holds all that they accounted for."""
        return not self.unfinished and all(
            not (part.missing_chunks or part.bad_chunks or part.shed)
            and part.rows == part.accounted_emitted == part.accounted_captured
            for part in self.by_type.values()
        )


async def audit(log: EventLog) -> Audit:
    """Read the whole log as it stands and sum it up.

    Raises:
        EventLogError: the log cannot be read, or retention overtook the reading.

    """
    accounts = _Accounts()
    counts = {name: await _count(log, fact, accounts) for name, fact in FACTS.items()}
    for source in {source for count in counts.values() for source in count.sources}:
        accounts.final.setdefault(source, False)
    return Audit(
        by_type={name: count.finished(accounts.of_type(name)) for name, count in counts.items()},
        unfinished=tuple(sorted(source for source, final in accounts.final.items() if not final)),
    )


async def _count(log: EventLog, fact: FactType, accounts: _Accounts) -> _Count:
    count = _Count()
    for partition in range(await log.partitions(fact.topic)):
        async for message in _messages(log, TopicPartition(fact.topic, partition)):
            try:
                count.add(parse(message.headers))
                if fact is EMITTER:
                    accounts.add(open_chunk(message)[2].select(_ACCOUNT).to_pylist())
            except ChunkError:
                count.bad += 1
    return count


async def _messages(log: EventLog, where: TopicPartition) -> AsyncIterator[Message]:
    offset, end = await log.bounds(where)
    while offset < end:
        for message in await log.read(where, offset, max_bytes=_READ_BYTES):
            offset = message.offset + 1
            yield message


class _Count:
    """Chunks of one fact type."""

    def __init__(self) -> None:
        self.sources: dict[str, set[int]] = {}
        self.bad = 0
        self._rows = 0
        self._repeated = 0

    def add(self, header: ChunkHeader) -> None:
        seen = self.sources.setdefault(header.source, set())
        if header.sequence in seen:
            self._repeated += 1
        else:
            seen.add(header.sequence)
            self._rows += header.rows

    def finished(self, accounts: list[dict[str, Any]]) -> TypeAudit:
        shed: Counter[str] = Counter()
        for account in accounts:
            shed.update(dict(account["shed"]))
        return TypeAudit(
            rows=self._rows,
            chunks=sum(map(len, self.sources.values())),
            missing_chunks=sum(max(seen) + 1 - len(seen) for seen in self.sources.values()),
            repeated_chunks=self._repeated,
            bad_chunks=self.bad,
            accounted_captured=sum(account["captured"] for account in accounts),
            accounted_emitted=sum(account["emitted"] + account["spooled"] for account in accounts),
            shed=dict(shed),
        )


class _Accounts:
    """The last account per producer and fact type."""

    def __init__(self) -> None:
        self.final: dict[str, bool] = {}
        self._last: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            producer, key = row["producer"], (row["producer"], row["fact_type"])
            self.final[producer] = self.final.get(producer, False) or row["final"]
            known = self._last.get(key)
            if known is None or _age(row) > _age(known):
                self._last[key] = row

    def of_type(self, name: str) -> list[dict[str, Any]]:
        return [row for (_, fact_type), row in self._last.items() if fact_type == name]


def _age(account: dict[str, Any]) -> tuple[bool, int, int]:
    return account["final"], account["captured"], account["emitted"] + account["spooled"]  # cumulative: they only grow
