"""What the outbox does with the disk: its own spool, those left behind, and what to do when one of them fails."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eventlog.backlog import Backlog
from eventlog.port import EventLogError, LogUnavailableError
from eventlog.schema import FACTS
from eventlog.spool import Chunk, Spool, SpoolFolder
from eventlog.sqlite_db import LogCorruptError

_logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_FAILURES: Final = 3
"""A spool that cannot be read or written this often in a row counts as damaged."""

_HEADERS_BYTES: Final = 1_024
"""What a chunk takes besides its value, at most about."""


@dataclass(slots=True)
class Source:
    """A spool that is being drained.

    Attributes:
        spool: the file.
        mine: whether its chunks are this producer's.
        position: the next to send; what lies before it is in the log, even if it could not be deleted.

    """

    spool: Spool
    mine: bool
    position: int = 0
    failures: int = 0
    gone: bool = False

    @property
    def empty(self) -> bool:
        """Whether all of it is in the log."""
        return self.gone or self.next >= self.spool.end

    @property
    def next(self) -> int:
        """Where to read on."""
        return max(self.position, self.spool.first)


class Spooling:
    """Belongs to one asyncio loop. Nothing here raises: a disk that fails is reported, and the facts are accounted for.

    Attributes:
        problem: why the disk takes no more chunks at present, as a reason of shedding; None while it does.
        set_aside: damaged spools found so far.
        deleted: of them, and of those found by earlier processes, how many were deleted to make room.

    """

    def __init__(self, folder: SpoolFolder, backlog: Backlog) -> None:
        self.problem: str | None = None
        self.set_aside = self.deleted = 0
        self._folder = folder
        self._backlog = backlog
        self._own: Source | None = None
        self._own_rows: Counter[str] = Counter()  # per fact type, on disk and not being sent
        self._left: list[Source] | None = None
        self._retry_at = 0.0

    @property
    def partitions(self) -> int | None:
        """Partitions of the log as an earlier producer knew them."""
        return self._folder.partitions

    def remember_partitions(self, partitions: int) -> None:
        """Keep the number for the next start."""
        self._folder.remember_partitions(partitions)

    @property
    def own(self) -> Source | None:
        """This producer's spool, while it has one."""
        return self._own

    @property
    def own_empty(self) -> bool:
        """Whether nothing of this producer waits on disk."""
        return self._own is None or self._own.empty

    async def put(self, chunks: Sequence[Chunk], *, sending: int) -> int:
        """Store chunks behind those that are there and return how many: from the front, as many as there is room for.

        The first `sending` of them are on their way to the log already: they are stored together, or nothing is.
        """
        if time.monotonic() < self._retry_at:
            return 0
        fitting = self._fitting(chunks)
        if fitting < max(1, sending):
            self._refuse("spool_full", f"the spools in {self._folder.folder} hold all they may")
            return 0
        if not (
            await self._stored(chunks[:fitting]) or await self._stored(chunks[:fitting])
        ):  # a damaged one is replaced
            return 0
        for chunk in chunks[sending:fitting]:
            if chunk.fact is not None:
                self._own_rows[chunk.fact.name] += chunk.rows
        self.problem = None
        if fitting < len(chunks):
            self._refuse("spool_full", f"the spools in {self._folder.folder} hold all they may")
        return fitting

    async def read(self, source: Source, max_bytes: int) -> list[Chunk]:
        """Return the next chunks of a spool; none if it is empty or fails."""
        try:
            chunks = await source.spool.read(source.next, max_bytes)
        except EventLogError as error:
            await self._failed(source, error)
            return []
        source.failures = 0
        if source.mine:
            for chunk in chunks:
                if chunk.fact is not None:
                    self._own_rows[chunk.fact.name] -= chunk.rows
        bad = sum(chunk.record is None for chunk in chunks)
        if bad:
            _logger.error("%d chunks in %s are not what was put there; they are lost", bad, source.spool.path)
        return chunks

    async def drop(self, source: Source, before: int) -> None:
        """Delete what is in the log, and the whole spool once it is empty."""
        if source.gone:
            return
        source.position = max(source.position, before)
        try:
            await source.spool.drop(source.position)
        except EventLogError as error:
            await self._failed(source, error)  # what is not deleted is not sent again by this producer
        if source.empty:
            await self._let_go(source)

    async def left_behind(self) -> Source | None:
        """Return a spool that an earlier producer left, the oldest first; None once all are in the log."""
        if self._left is None:
            self._left = []
            for spool in self._folder.left_behind():
                source = Source(spool, mine=False)
                try:
                    await spool.open()
                except LogCorruptError as error:
                    await self._abandon(source, error)
                except EventLogError as error:
                    _logger.warning("a spool left behind is not drained now: %s", error)
                else:
                    self._left.append(source)
            if self._left:
                _logger.warning("draining %d spools that an earlier process left", len(self._left))
        while self._left:
            if not self._left[0].empty:
                return self._left[0]
            await self._let_go(self._left.pop(0))
        return None

    async def aclose(self) -> None:
        """Let go of all files; what they hold is for the next start."""
        for source in [*(self._left or ()), *([self._own] if self._own is not None else ())]:
            await self._let_go(source)

    async def _stored(self, chunks: Sequence[Chunk]) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            if self._own is None or self._own.gone:
                self._own = Source(self._folder.create(), mine=True)
            await self._own.spool.put(chunks)
        except LogUnavailableError as error:
            full = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            self._refuse("spool_full" if full else "spool_failed", str(error))
            return False
        except EventLogError as error:
            await self._abandon(self._own, error)
            return False
        return True

    def _fitting(self, chunks: Sequence[Chunk]) -> int:
        sources = [*(self._left or ()), *([self._own] if self._own is not None else ())]
        room = self._folder.max_bytes - sum(source.spool.bytes for source in sources if not source.gone)
        for number, chunk in enumerate(chunks):
            room -= chunk.size + _HEADERS_BYTES
            if room < 0:
                return number
        return len(chunks)

    def _refuse(self, reason: str, detail: str) -> None:
        if self.problem != reason:
            _logger.warning("the log is away and facts are not spooled (%s): %s", reason, detail)
        self.problem = reason
        self._retry_at = time.monotonic() + _RETRY_S

    async def _failed(self, source: Source, error: EventLogError) -> None:
        source.failures += 1
        if source.failures >= _FAILURES or not isinstance(error, LogUnavailableError):
            await self._abandon(source, error)

    async def _abandon(self, source: Source | None, error: EventLogError) -> None:
        """Move a damaged spool out of the way and account for what was in it, as far as that is known."""
        if source is None or source.gone:
            return
        source.gone = True
        self.set_aside += 1
        aside = await source.spool.set_aside()
        self.deleted += self._folder.delete_damaged()
        lost = {name: rows for name, rows in self._own_rows.items() if rows > 0} if source.mine else {}
        _logger.error(
            "a spool is damaged (%s); it is now %s. %s",
            error,
            aside,
            f"Lost: {lost}"
            if source.mine
            else "Facts of an earlier process are lost; gaps in its ce_sequence show how many.",
        )
        if source.mine:
            self._account_lost()

    async def _let_go(self, source: Source) -> None:
        if source.gone:
            return
        source.gone = True
        try:
            await source.spool.aclose()
        except EventLogError as error:
            _logger.warning("a spool could not be closed: %s", error)
        if source.mine and source.spool.empty:
            self._account_lost()  # rows of chunks whose headers did not say any more what they were

    def _account_lost(self) -> None:
        for name, rows in self._own_rows.items():
            if rows > 0:
                self._backlog.settle_spooled(FACTS[name], shed={"spool_corrupt": rows})
        self._own_rows.clear()
