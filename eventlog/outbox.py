"""Named chunks on their way to the log, in order: what is being sent, what the spool holds, what waits in memory.

Chunks go from memory straight to the log while it takes them. When it does not for a while, all that waits is put on
disk, what is being sent included, and from then on everything goes by way of the disk until that is empty again. What
earlier producers left on disk goes to the log in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from eventlog.backlog import Backlog
from eventlog.link import FIRST_PAUSE_S, LONGEST_PAUSE_S, Link, first
from eventlog.port import Record, RefusedError, TopicPartition
from eventlog.spool import Chunk
from eventlog.spooling import Source, Spooling

_logger = logging.getLogger(__name__)

_MEMORY_BYTES: Final = 16 << 20
"""Chunks that wait in memory at most before their facts stay in the backlog."""

_BATCH_BYTES: Final = 4 << 20
_LOOK_S: Final = 1.0
_STALL_S: Final = 1.0
"""An append that takes longer than this sends what waits to disk."""

_SILENCE_S: Final = 5.0
"""One that takes longer than this is a problem to tell people of."""


@dataclass(slots=True)
class _Batch:
    """What one append sends. Chunks that are on disk too have a `source`, and end before its position `before`."""

    chunks: list[Chunk]
    source: Source | None = None
    before: int = 0


class Outbox:
    """Belongs to one asyncio loop, which runs `run` as a task.

    Args:
        backlog: is told what became of the rows.
        link: the log.
        spooling: the disk; None to do without.

    """

    def __init__(self, backlog: Backlog, link: Link, spooling: Spooling | None) -> None:
        self._backlog = backlog
        self._link = link
        self._spooling = spooling
        self._memory: deque[Chunk] = deque()
        self._memory_bytes = 0
        self._sending: _Batch | None = None
        self._since = 0.0
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._turn = 0

    @property
    def idle(self) -> bool:
        """Whether all of this producer's chunks are in the log."""
        own = self._spooling is not None and not self._spooling.own_empty
        mine = self._sending is not None and (self._sending.source is None or self._sending.source.mine)
        return not (self._memory or mine or own)

    @property
    def safe(self) -> bool:
        """Whether all of this producer's chunks are in the log or on disk."""
        return not self._memory and (self._sending is None or self._sending.source is not None)

    def stalled(self, after_s: float = _STALL_S) -> bool:
        """Whether the log fails or has not answered for a while."""
        waiting = self._sending is not None and time.monotonic() - self._since > after_s
        return waiting or (self._link.problem is not None)

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks over, to be sent after all others."""
        self._memory.extend(chunks)
        self._memory_bytes += sum(chunk.size for chunk in chunks)
        self._changed.set()

    async def room(self) -> bool:
        """Move what waits to disk if it has to, and tell whether more may be added."""
        if self._sending is not None and (waited_s := time.monotonic() - self._since) > _SILENCE_S:
            self._link.waiting(waited_s)
        if self._spooling is not None and (
            self.stalled() or not self._spooling.own_empty or self._memory_bytes >= _MEMORY_BYTES
        ):
            await self.spool()
        return self._memory_bytes < _MEMORY_BYTES

    async def spool(self) -> None:
        """Put on disk all that is in memory, as far as the disk takes it."""
        if self._spooling is None:
            return
        async with self._lock:
            sending = self._sending
            front = sending.chunks if sending is not None and sending.source is None else []
            moving = [*front, *self._memory]
            if not moving:
                return
            stored = await self._spooling.put(moving, sending=len(front))
            self._backlog.overflow = self._spooling.problem or "backlog_full"
            if not stored:
                return
            if sending is not None and front:
                sending.source = own = self._spooling.own
                sending.before = own.spool.end - stored + len(front) if own is not None else 0
            for chunk in moving[:stored]:
                if chunk.fact is not None:
                    self._backlog.settle(chunk.fact, spooled=chunk.rows)
            for _ in range(stored - len(front)):
                self._memory_bytes -= self._memory.popleft().size

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._changed.clear()
            async with self._lock:
                self._sending = await self._next()
                self._since = time.monotonic()
            if self._sending is None:
                await first(self._changed.wait(), asyncio.sleep(_LOOK_S))
            else:
                await self._send(self._sending)

    def give_up(self) -> None:
        """Account for what is in memory as shed: nothing will be sent any more, and what is on disk is safe there."""
        if self._sending is not None and self._sending.source is None:
            for chunk in self._sending.chunks:
                if chunk.fact is not None:
                    self._backlog.settle(chunk.fact, shed={"unacknowledged": chunk.rows})
        self._sending = None
        while self._memory:
            chunk = self._memory.popleft()
            if chunk.fact is not None:
                self._backlog.settle(chunk.fact, shed={"close_timeout": chunk.rows})

    async def _next(self) -> _Batch | None:
        """Choose what to send: this producer's chunks and those left behind by others take turns."""
        self._turn += 1
        if self._turn % 2 and (batch := await self._left_behind()) is not None:
            return batch
        if self._spooling is not None and not self._spooling.own_empty:
            return await self._from_disk(self._spooling.own)
        if self._memory:
            return self._from_memory()
        return await self._left_behind()

    async def _left_behind(self) -> _Batch | None:
        source = await self._spooling.left_behind() if self._spooling is not None else None
        return await self._from_disk(source)

    async def _from_disk(self, source: Source | None) -> _Batch | None:
        if self._spooling is None or source is None:
            return None
        chunks = await self._spooling.read(source, _BATCH_BYTES)
        return _Batch(chunks, source, source.next + len(chunks)) if chunks else None

    def _from_memory(self) -> _Batch:
        chunks: list[Chunk] = []
        size = 0
        while self._memory and (not chunks or size + self._memory[0].size <= _BATCH_BYTES):
            chunks.append(self._memory.popleft())
            size += chunks[-1].size
        self._memory_bytes -= size
        return _Batch(chunks)

    async def _send(self, batch: _Batch) -> None:
        pause_s = FIRST_PAUSE_S
        waiting, refused = list(batch.chunks), list[Chunk]()
        one_by_one = False
        while waiting:
            part = list(islice(waiting, 1 if one_by_one else None))
            try:
                log = await self._link.ready()
                await log.append([record for chunk in part if (record := self._addressed(chunk)) is not None])
                self._link.recovered()
            except RefusedError as error:
                if one_by_one:
                    _logger.error("a chunk of %d facts is refused: %s", part[0].rows, error)  # noqa: TRY400 - no bug
                    refused += part
                    del waiting[0]
                one_by_one = True
            except Exception as error:  # noqa: BLE001 - a log may raise anything; the chunks are kept and it is reported
                await self._link.failed(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                del waiting[: len(part)]
        async with self._lock:  # not while the same chunks are being put on disk
            self._settle(batch, refused)
            self._sending = None
            if batch.source is not None and self._spooling is not None:
                await self._spooling.drop(batch.source, batch.before)

    def _addressed(self, chunk: Chunk) -> Record | None:
        """Return a chunk's record; one made for more partitions than the log has goes to one that is there."""
        record, partitions = chunk.record, self._link.partitions or 1
        if record is None or record.where.partition < partitions:
            return record
        return replace(record, where=TopicPartition(record.where.topic, record.where.partition % partitions))

    def _settle(self, batch: _Batch, refused: list[Chunk]) -> None:
        for chunk in batch.chunks:
            if chunk.fact is None or (batch.source is not None and not batch.source.mine):
                continue
            settle = self._backlog.settle if batch.source is None else self._backlog.settle_spooled
            if chunk.record is None:
                settle(chunk.fact, shed={"spool_corrupt": chunk.rows})
            elif any(chunk is other for other in refused):
                settle(chunk.fact, shed={"refused": chunk.rows})
            else:
                settle(chunk.fact, emitted=chunk.rows)
