"""The ledger in memory: which chunks of a partition are stored, so that one that was sent twice is taken once.

A chunk is dropped if, and only if, an earlier offset of its partition holds the same chunk and was taken. That follows
from the log alone, so a replayed range always drops the same chunks, whoever replays it: at the take-over the store's
`chunks` table is read up to the position, and a range's own chunks enter when the range is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from eventlog.cloudevents import ChunkHeader
from eventlog.port import TopicPartition

PAGE_BITS: Final = 64
"""Sequences are kept as bitmaps of this many, as the store hands them out."""

KEEP_NS: Final = 14 * 86_400_000_000_000
"""A source that sent nothing for this long is forgotten: no spool is drained that late. By the log's clock."""

_FORGET_EVERY: Final = 4096


@dataclass(frozen=True, slots=True)
class Taken:
    """A chunk that is stored, or will be with its range.

    Attributes:
        source: `ce_source`.
        type: `ce_type`.
        sequence: `ce_sequence`.
        offset: where it stands in its partition.
        rows: number of facts.
        appended_ns: when, by the log's clock.

    """

    source: str
    type: str
    sequence: int
    offset: int
    rows: int
    appended_ns: int


@dataclass(slots=True)
class _Sequences:
    """One source's chunks of one type: bits by page, and when the last one came."""

    pages: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    last_ns: int = 0


class PartitionLedger:
    """Chunks of one partition that are stored. About 2 bytes per chunk; read by one worker thread at a time."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], _Sequences] = {}
        self._added = 0

    def __contains__(self, header: ChunkHeader) -> bool:
        """Whether the chunk of that header is stored."""
        known = self._sources.get((header.source, header.type))
        if known is None:
            return False
        page, bit = divmod(header.sequence, PAGE_BITS)
        return bool(known.pages.get(page, 0) >> bit & 1)

    def restore(self, source: str, kind: str, pages: Mapping[int, int], last_ns: int) -> None:
        """Take over what the store has of a source and type."""
        known = self._sources.setdefault((source, kind), _Sequences())
        for page, bits in pages.items():
            known.pages[page] |= bits
        known.last_ns = max(known.last_ns, last_ns)

    def add(self, taken: Iterable[Taken]) -> None:
        """Note chunks that are stored now."""
        for chunk in taken:
            known = self._sources.setdefault((chunk.source, chunk.type), _Sequences())
            page, bit = divmod(chunk.sequence, PAGE_BITS)
            known.pages[page] |= 1 << bit
            known.last_ns = max(known.last_ns, chunk.appended_ns)
            self._added += 1
            if self._added % _FORGET_EVERY == 0:
                self._forget(chunk.appended_ns - KEEP_NS)

    def _forget(self, before_ns: int) -> None:
        for key in [key for key, known in self._sources.items() if known.last_ns < before_ns]:
            del self._sources[key]


class Ledger:
    """Chunks that are stored, by partition."""

    def __init__(self) -> None:
        self._partitions: defaultdict[TopicPartition, PartitionLedger] = defaultdict(PartitionLedger)

    def clear(self) -> None:
        """Forget all; positions are about to be read anew."""
        self._partitions.clear()

    def of(self, where: TopicPartition) -> PartitionLedger:
        """Return the part of one partition."""
        return self._partitions[where]
