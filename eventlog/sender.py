"""The emitter's loop: takes what waits, makes chunks of it, and hands them to the outbox, which sends them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from eventlog import cloudevents
from eventlog.backlog import Backlog, Block, Row
from eventlog.chunks import Sorter, encoded
from eventlog.columns import Assembly
from eventlog.link import Link, first
from eventlog.outbox import Outbox
from eventlog.port import Record, TopicPartition
from eventlog.schema import EMITTER, FACTS, NO_SESSION, FactType
from eventlog.spool import Chunk
from eventlog.spooling import Spooling

_logger = logging.getLogger(__name__)

_ACCOUNT_EVERY_S: Final = 10.0
_DATA_SHARE: Final = 0.8
"""Share of the time for closing that pending facts may use; the rest is for the final accounts."""

_CLOSING_STALL_S: Final = 0.3
"""An append that takes longer than this while closing sends what waits to disk."""

_LOOK_S: Final = 0.02

_BLOCKS_PER_CHUNK: Final = 4
"""A block of more rows than a chunk's by this number is a chunk of its own: it comes sorted, and is not copied."""

_STEP_ROWS: Final = 512
"""Single rows that are typed in one step, some 2 ms. What a step costs whatever its size weighs too much in less."""

_BREATH_S: Final = 0.005
"""Between two steps. The threads that carry voice share the interpreter: each of their calls into a codec gives it
away, and to have it back they wait while this one works. Waits this far apart fit into a tick, all in one go do not."""

_HURRY_ROWS: Final = 32_768
"""With so many rows held there are no pauses: a lasting flood of rows would be shed for nothing."""


@dataclass(frozen=True, slots=True)
class Producer:
    """Who emits: `ce_source`, the process's role and region, and its clock's name."""

    source: str
    role: str
    region: str
    host_id: str


class Sender:
    """Runs in the emitter's thread; only `close` is for other threads.

    Args:
        link: the log.
        backlog: what waits.
        spooling: the disk; None to do without.
        producer: whose facts they are.
        flush_s: how often to look for facts.
        chunk_rows: rows per chunk at most.
        partitions: of the log's topics, as long as neither the log nor an earlier start has told.

    """

    def __init__(
        self,
        link: Link,
        backlog: Backlog,
        spooling: Spooling | None,
        producer: Producer,
        *,
        flush_s: float,
        chunk_rows: int,
        partitions: int | None,
    ) -> None:
        self._link = link
        self._backlog = backlog
        self._spooling = spooling
        self._producer = producer
        self._flush_s = flush_s
        self._chunk_rows = chunk_rows
        self._assumed = partitions
        self._remembered: int | None = None
        self._outbox = Outbox(backlog, link, spooling)
        self._sorters = {name: Sorter(fact) for name, fact in FACTS.items()}
        self._sequences = dict.fromkeys(FACTS, 0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._data_late = asyncio.Event()
        self._late = asyncio.Event()
        self._lock = threading.Lock()
        self._close_by: tuple[float, float] | None = None

    def close(self, timeout_s: float) -> None:
        """Ask the loop, from another thread, to write everything and end within a time."""
        with self._lock:
            self._close_by = (time.monotonic() + timeout_s * _DATA_SHARE, time.monotonic() + timeout_s)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin_close, *self._close_by)

    async def run(self) -> None:
        """Write what comes until `close`."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._close_by is not None:
                self._begin_close(*self._close_by)
        sending = asyncio.create_task(self._outbox.run())
        connecting = asyncio.create_task(self._link.ready())  # says how many partitions there are
        try:
            await self._work(sending)
            await self._finish(sending)
        finally:
            with self._lock:
                self._loop = None
            for task in (sending, connecting):
                task.cancel()
            await asyncio.gather(sending, connecting, return_exceptions=True)
            self._outbox.give_up()
            await self._link.drop()
            if self._spooling is not None:
                await self._spooling.aclose()

    def _begin_close(self, data_by: float, by: float) -> None:
        self._closing.set()
        loop = asyncio.get_running_loop()
        loop.call_later(data_by - time.monotonic(), self._data_late.set)
        loop.call_later(by - time.monotonic(), self._late.set)

    async def _work(self, sending: asyncio.Task[None]) -> None:
        account_at = time.monotonic() + _ACCOUNT_EVERY_S
        while not self._closing.is_set():
            await first(self._closing.wait(), asyncio.sleep(self._flush_s))
            _check(sending)
            await self._take_all()
            if time.monotonic() >= account_at and self._partitions() and await self._outbox.room():
                account_at += _ACCOUNT_EVERY_S
                await self._account(final=False)

    async def _finish(self, sending: asyncio.Task[None]) -> None:
        self._backlog.refuse("closed")
        await self._settled(sending, self._data_late)
        self._backlog.shed_queued("close_timeout")
        if self._partitions():
            await self._account(final=True)
            await self._settled(sending, self._late)
        else:
            self._backlog.hold(EMITTER, 1)
            self._backlog.settle(EMITTER, shed={"close_timeout": 1})

    async def _settled(self, sending: asyncio.Task[None], late: asyncio.Event) -> None:
        """Have all that is pending in the log, or on disk if the log does not take it, or stop when it is late."""
        while True:
            _check(sending)
            queued = await self._take_all()
            if self._outbox.stalled(_CLOSING_STALL_S) or late.is_set():
                await self._outbox.spool()
                if not queued and self._outbox.safe:
                    return
            if late.is_set() or (not queued and self._outbox.idle):
                return
            await first(late.wait(), asyncio.sleep(_LOOK_S))

    def _partitions(self) -> int | None:
        """Return the number of partitions to make chunks for; None if there is no way to know."""
        known = self._link.partitions
        if self._spooling is None:
            return known or self._assumed
        if known is not None and known != self._remembered:
            self._spooling.remember_partitions(known)
            self._remembered = known
        if known is None and self._remembered is None:
            self._remembered = self._spooling.partitions
        return known or self._remembered or self._assumed

    async def _take_all(self) -> bool:
        """Make chunks of all that is queued now, in rounds of about a chunk's rows per type; what comes then waits.

        Returns whether some had to stay queued because the outbox is full or the partitions are not known.
        """
        left = {name: rows for name, rows in self._backlog.queued().items() if rows}
        has_room = await self._outbox.room()
        while left and has_room and (partitions := self._partitions()):
            for name in list(left):
                blocks = self._backlog.take(FACTS[name], max(1, self._chunk_rows // _BLOCKS_PER_CHUNK))
                left[name] -= sum(block.size for block in blocks)
                if not blocks or left[name] <= 0:
                    del left[name]
                if blocks:
                    self._outbox.add(await self._chunks(FACTS[name], blocks, partitions))
            await asyncio.sleep(0)  # the outbox's turn
            has_room = await self._outbox.room()
        return bool(left)

    async def _chunks(self, fact: FactType, blocks: list[Block], partitions: int) -> list[Chunk]:
        """Make chunks of blocks and name them; rows that no chunk can hold are shed."""
        rows = sum(block.size for block in blocks)
        chunks: list[Chunk] = []
        try:
            assembly = Assembly(fact, self._producer.host_id)
            for step in _steps(blocks):
                assembly.add(step)
                await self._breathe()
            if assembly.invalid:
                _logger.error("%d %s facts are invalid: %s", assembly.invalid, fact.name, assembly.problem)
                self._backlog.settle(fact, shed={"invalid": assembly.invalid})
                rows -= assembly.invalid
            if (batch := assembly.batch()) is not None:
                sorter = self._sorters[fact.name]
                for partition, part in sorter.chunks(batch, partitions, self._chunk_rows):
                    await self._breathe()
                    for size, data in encoded(fact, part):
                        if data:
                            chunks.append(self._named(fact, partition, size, data))
                        else:
                            self._backlog.settle(fact, shed={"too_large": size})
                        rows -= size
        except Exception:  # one type's trouble must not stop the others, nor the thread
            _logger.exception("%d %s facts could not be made into chunks", rows, fact.name)
            self._backlog.settle(fact, shed={"failed": rows})
        return chunks

    async def _breathe(self) -> None:
        """Leave the interpreter to the process's other threads, unless there is no time for that."""
        if not self._closing.is_set() and self._backlog.held < _HURRY_ROWS:
            await asyncio.sleep(_BREATH_S)

    def _named(self, fact: FactType, partition: int, rows: int, data: bytes) -> Chunk:
        sequence = self._sequences[fact.name]
        headers = cloudevents.headers(fact, self._producer.source, sequence, rows, data, time.time_ns())
        self._sequences[fact.name] += 1
        key = str(partition).encode()
        return Chunk(fact, rows, Record(TopicPartition(fact.topic, partition), data, headers, key))

    async def _account(self, *, final: bool) -> None:
        """Write the accounts as facts, the one of `emitter` facts with these very rows included."""
        accounts = self._backlog.accounts()
        names = sorted(name for name, account in accounts.items() if account.captured or name == EMITTER.name)
        self._backlog.hold(EMITTER, len(names))
        now_ns = time.time_ns()
        rows: list[Row] = []
        for name in names:
            account = accounts[name]
            own = len(names) if name == EMITTER.name else 0
            values = {
                "producer": self._producer.source,
                "role": self._producer.role,
                "fact_type": name,
                "captured": account.captured + own,
                "emitted": account.emitted + own,
                "spooled": account.spooled,
                "shed": dict(account.shed),
                "final": final,
            }
            rows.append((NO_SESSION, self._producer.region, now_ns, values))
        self._outbox.add(await self._chunks(EMITTER, [Block(len(rows), rows=rows)], self._partitions() or 1))


def _steps(blocks: list[Block]) -> Iterator[Block]:
    """Cut rows into steps; columns are cheap to type and stay whole."""
    for block in blocks:
        if block.rows is None:
            yield block
            continue
        for start in range(0, block.size, _STEP_ROWS):
            rows = block.rows[start : start + _STEP_ROWS]
            yield Block(len(rows), rows=rows)


def _check(task: asyncio.Task[None]) -> None:
    if task.done():
        task.result()
