"""The emitter's loop: takes what waits, makes chunks of it, and repeats each append until the log has it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from eventlog import cloudevents
from eventlog.backlog import Backlog, Block, Row
from eventlog.chunks import Sorter, encoded
from eventlog.columns import assemble
from eventlog.port import EventLog, EventLogError, LogUnavailableError, Record, TopicPartition
from eventlog.schema import EMITTER, FACTS, NO_SESSION, FactType

_logger = logging.getLogger(__name__)

_ACCOUNT_EVERY_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_DATA_SHARE: Final = 0.8
"""Share of the time for closing that pending facts may use; the rest is for the final accounts."""


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Producer:
    """Who emits: `ce_source`, the process's role and region, and its clock's name."""

    source: str
    role: str
    region: str
    host_id: str


@dataclass(slots=True)
class _Chunk:
    """A chunk with its final name, which it keeps however often it is sent."""

    fact: FactType
    rows: int
    record: Record


class Sender:
    """Runs in the emitter's thread; only `close` and `problem` are for other threads."""

    def __init__(
        self,
        open_log: Callable[[], EventLog],
        backlog: Backlog,
        producer: Producer,
        *,
        flush_s: float,
        chunk_rows: int,
    ) -> None:
        self.problem: str | None = None
        self._open_log = open_log
        self._backlog = backlog
        self._producer = producer
        self._flush_s = flush_s
        self._chunk_rows = chunk_rows
        self._log: EventLog | None = None
        self._partitions = 0
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
        try:
            account_at = time.monotonic() + _ACCOUNT_EVERY_S
            while not self._closing.is_set():
                await _first(self._closing.wait(), asyncio.sleep(self._flush_s))
                await self._drain(self._data_late)
                if time.monotonic() >= account_at:
                    account_at += _ACCOUNT_EVERY_S
                    await self._account(self._data_late, final=False)
            self._backlog.refuse("closed")
            await self._drain(self._data_late)
            self._backlog.shed_queued("close_timeout")
            await self._account(self._late, final=True)
        finally:
            with self._lock:
                self._loop = None
            await self._drop_log()

    def _begin_close(self, data_by: float, by: float) -> None:
        self._closing.set()
        loop = asyncio.get_running_loop()
        loop.call_later(data_by - time.monotonic(), self._data_late.set)
        loop.call_later(by - time.monotonic(), self._late.set)

    async def _drain(self, late: asyncio.Event) -> None:
        """Send all that is queued now, in rounds of about a chunk's rows per type; what comes meanwhile waits."""
        left = {name: rows for name, rows in self._backlog.queued().items() if rows}
        while left and await self._ready(late):
            chunks: list[_Chunk] = []
            for name in list(left):
                blocks = self._backlog.take(FACTS[name], self._chunk_rows)
                left[name] -= sum(block.size for block in blocks)
                if not blocks or left[name] <= 0:
                    del left[name]
                if blocks:
                    chunks += self._chunks(FACTS[name], blocks)
            await self._deliver(chunks, late)

    def _chunks(self, fact: FactType, blocks: list[Block]) -> list[_Chunk]:
        """Make chunks of blocks and name them; rows that no chunk can hold are shed."""
        rows = sum(block.size for block in blocks)
        chunks: list[_Chunk] = []
        try:
            result = assemble(fact, blocks, self._producer.host_id)
            if result.invalid:
                _logger.error("%d %s facts are invalid: %s", result.invalid, fact.name, result.problem)
                self._backlog.settle(fact, shed={"invalid": result.invalid})
                rows -= result.invalid
            if result.batch is not None:
                sorter = self._sorters[fact.name]
                for partition, part in sorter.chunks(result.batch, self._partitions, self._chunk_rows):
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

    def _named(self, fact: FactType, partition: int, rows: int, data: bytes) -> _Chunk:
        sequence = self._sequences[fact.name]
        headers = cloudevents.headers(fact, self._producer.source, sequence, rows, data, time.time_ns())
        self._sequences[fact.name] += 1
        key = str(partition).encode()
        return _Chunk(fact, rows, Record(TopicPartition(fact.topic, partition), data, headers, key))

    async def _deliver(self, chunks: list[_Chunk], late: asyncio.Event) -> None:
        """Append chunks, again and again until the log has them or it is too late."""
        pause_s = _FIRST_PAUSE_S
        records = [chunk.record for chunk in chunks]
        acknowledged = not records
        while not acknowledged and await self._ready(late):
            acknowledged = await self._try_append(records, late)
            if not acknowledged:
                await _first(late.wait(), asyncio.sleep(pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        for chunk in chunks:
            if acknowledged:
                self._backlog.settle(chunk.fact, emitted=chunk.rows)
            else:
                self._backlog.settle(chunk.fact, shed={"unacknowledged": chunk.rows})

    async def _try_append(self, records: list[Record], late: asyncio.Event) -> bool:
        if self._log is None:
            return False
        try:
            answered, _ = await _first(self._log.append(records), late.wait())
        except Exception as error:  # noqa: BLE001 - a log may raise anything; the chunks are kept and it is reported
            await self._failed(error)
            return False
        if answered:
            self._recovered()
        return answered

    async def _ready(self, late: asyncio.Event) -> bool:
        """Open the log if it is not; wait for it, and return False only if it is too late."""
        pause_s = _FIRST_PAUSE_S
        while not late.is_set():
            if self._log is not None:
                return True
            try:
                self._log = self._open_log()
                answered, partitions = await _first(self._log.partitions(EMITTER.topic), late.wait())
                if answered and partitions:
                    self._partitions = partitions
                    return True
            except Exception as error:  # noqa: BLE001 - as in `_try_append`
                await self._failed(error)
            await self._drop_log()
            await _first(late.wait(), asyncio.sleep(pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return False

    async def _failed(self, error: Exception) -> None:
        if self.problem is None:
            known = isinstance(error, EventLogError)
            _logger.warning("facts wait for the log: %s", error, exc_info=None if known else error)
        self.problem = str(error)
        if not isinstance(error, LogUnavailableError):
            await self._drop_log()

    def _recovered(self) -> None:
        if self.problem is not None:
            _logger.info("facts reach the log again")
        self.problem = None

    async def _drop_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            try:
                await _first(log.aclose(), asyncio.sleep(_LONGEST_PAUSE_S))
            except Exception as error:  # noqa: BLE001 - there is nothing left to do with it but to say so
                _logger.warning("the log could not be closed: %s", error)

    async def _account(self, late: asyncio.Event, *, final: bool) -> None:
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
        if await self._ready(late):
            await self._deliver(self._chunks(EMITTER, [Block(len(rows), rows=rows)]), late)
        else:
            self._backlog.settle(EMITTER, shed={"close_timeout": len(rows)})


async def _first(wanted: Awaitable[_T], other: Awaitable[object]) -> tuple[bool, _T | None]:
    """Await two things until one is done: `(True, result)` of the wanted one, or `(False, None)`; cancel the rest."""
    task, rival = asyncio.ensure_future(wanted), asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, rival}, return_when=asyncio.FIRST_COMPLETED)
        return (True, task.result()) if task.done() else (False, None)
    finally:
        task.cancel()
        rival.cancel()
