"""The loop: commit the intent, insert, commit the effect; replay what a crash left open.

For every range `[lo, hi]` of a partition, in this order:

1. position `lo` with the intent as metadata is committed to the log, fenced by the group's generation;
2. its blocks are inserted, each with the token that the intent gives it;
3. position `hi + 1` with no metadata is committed.

Whoever reads a position with metadata replays exactly that range with exactly those tokens, even if the base table has
the rows already: a crash may have left them in it and in only some of the rollups, and only the same insert again
completes the rest.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import stamina
import structlog

from collector.blocks import CHUNKS, Block, Opened, open_range
from collector.config import CollectorConfig
from collector.deadletters import bury
from collector.errors import PoisonError
from collector.ledger import Ledger
from collector.progress import Observer, Progress, Stage
from collector.ranges import Intent, Planner, Range
from collector.writer import ClientFactory, StoreUnavailableError, Writer
from eventlog.port import (
    Committed,
    EventLog,
    FencedError,
    LogUnavailableError,
    OffsetOutOfRangeError,
    Subscription,
    TopicPartition,
)

log = structlog.get_logger("sidetone.collector")


@dataclass(frozen=True, slots=True)
class Backfill:
    """A part of the log that is loaded once more.

    Attributes:
        upto: by partition, the first offset that is not loaded.
        table: for facts, instead of their own; None for their own.

    """

    upto: Mapping[TopicPartition, int]
    table: str | None = None

    def aimed(self, opened: Opened) -> Opened:
        """Return a range's facts for the table; ledger and dead letters have theirs from the first time."""
        facts = [block for block in opened.blocks if block.table != CHUNKS]
        return replace(opened, blocks=tuple(replace(block, table=self.table or block.table) for block in facts))


FETCH_S: Final = 0.1
"""Longest wait for messages: how soon a collector at the log's end notices that it is to stop."""
LOG_RETRY_S: Final = 0.5
RETRY_FIRST_S: Final = 0.05

_T = TypeVar("_T")


class Collector:
    """Moves chunks from the log into the store, each once in effect. One event loop, its own worker threads.

    Args:
        log: the event log; stays open when the collector ends.
        client_factory: makes clickhouse_connect clients, one per worker thread; may raise while the store is away.
        config: limits and names.
        observers: told of every step.
        backfill: what to load again and where to; None to load what comes.

    """

    def __init__(
        self,
        log: EventLog,
        client_factory: ClientFactory,
        config: CollectorConfig | None = None,
        *,
        observers: Sequence[Observer] = (),
        backfill: Backfill | None = None,
    ) -> None:
        self._log = log
        self._config = config or CollectorConfig()
        self._observers = tuple(observers)
        self._writer = Writer(client_factory)
        # Names this run. A log that was deleted and made anew starts at offset 0 again, and the store would take its
        # ranges for those that it has; a run's own name keeps them apart, and replays use the name in the intent.
        self._epoch = secrets.token_hex(8)
        self._planner = Planner(
            self._epoch,
            max_rows=self._config.max_rows,
            max_bytes=self._config.max_bytes,
            max_age_s=self._config.max_age_s,
            ripe_bytes=self._config.ripe_bytes,
        )
        self._generation: int | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._passed: dict[TopicPartition, int] = {}
        self._targets: dict[TopicPartition, int] = {}
        self._poison: defaultdict[TopicPartition, int] = defaultdict(int)
        self._ledger = Ledger()
        self._backfill = backfill
        self._draining = False
        self._fetched_at = time.monotonic()
        self._pool = ThreadPoolExecutor(self._config.workers, thread_name_prefix="collector")
        self._slots = asyncio.Semaphore(self._config.workers)
        self.alive_at = time.monotonic()
        """Monotonic seconds of the last sign of life."""

    async def run(self, stop: asyncio.Event) -> None:
        """Load until `stop`, then what stands in the log by then, for at most `stop_grace_s`.

        Raises:
            CollectorHaltedError: it needs a person.

        """
        work = asyncio.ensure_future(self._join_and_work())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._draining = True
                await asyncio.wait({work}, timeout=self._config.stop_grace_s)
            if work.done():
                work.result()
            else:
                log.warning("stopped before the log's end; the next start goes on from there")
        finally:
            await _cancel([work, stopping])
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def drain(self) -> None:
        """Load up to where the log ends now, and return. A collector drains or runs once.

        Raises:
            CollectorHaltedError: it needs a person.

        """
        self._draining = True
        try:
            await self._join_and_work()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def lag(self) -> dict[str, int]:
        """Return by topic how many messages of the partitions owned are in the log and not committed.

        Raises:
            LogUnavailableError: the log cannot be reached.

        """
        behind: defaultdict[str, int] = defaultdict(int)
        for where, passed in list(self._passed.items()):
            behind[where.topic] += (await self._log.bounds(where))[1] - passed
        return dict(behind)

    async def _join_and_work(self) -> None:
        async with AsyncExitStack() as stack:
            subscription = await self._join(stack)
            await self._work(subscription)

    async def _join(self, stack: AsyncExitStack) -> Subscription:
        while True:
            self.alive_at = time.monotonic()
            try:
                for topic in self._config.topics:
                    await self._log.partitions(topic)  # a topic that is missing is created by whoever asks first
                member = self._log.subscribe(self._config.group, self._config.topics)
                return await stack.enter_async_context(member)
            except LogUnavailableError as error:
                log.warning("event log unavailable; trying again", detail=str(error))
                await asyncio.sleep(LOG_RETRY_S)

    async def _work(self, subscription: Subscription) -> None:
        while True:
            self.alive_at = time.monotonic()
            try:
                if self._generation != subscription.generation:
                    await self._take_over(subscription)
                if self._draining and await self._at_end(subscription):
                    return
                await self._step(subscription)
            except FencedError as error:
                self._notify(Progress(Stage.FENCED, error=str(error)))
                log.warning("another collector has the partitions; dropped the work on them", detail=str(error))
                self._generation = None
            except OffsetOutOfRangeError as error:
                await self._expired(subscription, error)
            except LogUnavailableError as error:
                # What was in hand may or may not be committed; the positions in the log say, once it answers.
                log.warning("event log unavailable; trying again", detail=str(error))
                self._generation = None
                await asyncio.sleep(LOG_RETRY_S)

    async def _take_over(self, subscription: Subscription) -> None:
        generation = subscription.generation
        self._planner.reset()
        for positions in (self._positions, self._passed, self._targets):
            positions.clear()
        pending: list[Intent] = []
        for where in sorted(subscription.assignment):
            committed = await subscription.committed(where)
            if committed is None:
                committed = Committed((await self._log.bounds(where))[0])
            await subscription.seek(where, committed.offset)
            self._positions[where] = self._passed[where] = committed.offset
            if committed.metadata:
                pending.append(Intent.from_metadata(where, committed.offset, committed.metadata))
        if not await self._read_ledger(subscription, generation):
            return
        self._planner.reset(pending)
        self._generation = generation
        self._notify(Progress(Stage.TAKEN_OVER, count=len(pending), partitions=len(self._passed)))
        for intent in pending:
            log.info("replaying a range left open", where=str(intent.where), lo=intent.lo, hi=intent.hi)

    async def _read_ledger(self, subscription: Subscription, generation: int) -> bool:
        """Learn which chunks are stored up to the positions; False if the partitions changed hands meanwhile."""
        positions = dict(self._positions)

        def unless_moved(error: Exception) -> bool:
            if not isinstance(error, StoreUnavailableError):
                return False
            self._notify(Progress(Stage.REFUSED, error=str(error), kind=error.kind))
            return subscription.generation == generation

        try:
            async for attempt in self._retries(unless_moved):
                with attempt:
                    self._ledger = await self._thread(lambda: self._writer.taken(positions, time.time_ns()))
        except StoreUnavailableError:
            return False
        return True

    async def _at_end(self, subscription: Subscription) -> bool:
        for where in subscription.assignment - self._targets.keys():
            self._targets[where] = (
                self._backfill.upto.get(where, 0) if self._backfill else (await self._log.bounds(where))[1]
            )
        behind = any(self._positions.get(where, 0) < end for where, end in self._targets.items())
        return self._planner.empty and not behind

    async def _step(self, subscription: Subscription) -> None:
        config = self._config
        wait_s = FETCH_S if self._draining else min(FETCH_S, self._planner.wait_s(time.monotonic()))
        waited_s = time.monotonic() - self._fetched_at
        messages = await subscription.fetch(max_bytes=config.fetch_bytes, timeout_s=wait_s)
        if self._generation != subscription.generation:
            return  # fetched for a member that is no more; the take-over starts at the committed positions
        for message in messages:
            self._positions[message.where] = message.offset + 1
        if self._backfill is not None:
            messages = [message for message in messages if message.offset < self._backfill.upto.get(message.where, 0)]
        now = self._fetched_at = time.monotonic()
        # What came while the ranges before were loaded has waited in the log; its age counts from then.
        self._planner.add(messages, now - waited_s)
        flush = self._draining or self._planner.held_bytes >= config.max_bytes
        await self._load(subscription, self._planner.take(now, flush=flush))

    async def _load(self, subscription: Subscription, ranges: Sequence[Range]) -> None:
        finished: list[Opened] = []
        for batch in _rounds(ranges):
            # One commit passes the ranges before and names the next; a range of a partition replaces its position.
            positions = _passed(finished) | {r.intent.where: Committed(r.intent.lo, r.intent.metadata()) for r in batch}
            await self._commit(subscription, positions)
            self._committed(finished)
            for source in batch:
                self._notify(Progress(Stage.INTENDED, source.intent.where, source.intent))
            finished = await _all(self._range(source, subscription) for source in batch)
        if finished:
            await self._commit(subscription, _passed(finished))
            self._committed(finished)

    async def _commit(self, subscription: Subscription, positions: dict[TopicPartition, Committed]) -> None:
        self._check_generation(subscription)
        await subscription.commit(positions)

    def _check_generation(self, subscription: Subscription) -> None:
        """Refuse work planned before a rebalance, also on a partition that came back: another may have gone on."""
        if self._generation != subscription.generation:
            raise FencedError("the group was rebalanced since this work was planned")

    async def _range(self, source: Range, subscription: Subscription) -> Opened:
        intent = source.intent
        ledger = self._ledger.of(intent.where)
        async with self._slots:
            opened = await self._thread(lambda: open_range(source, ledger, late_after_s=self._config.late_after_s))
            if self._backfill is None:
                self._check_poison(opened)
                self._notify(Progress(Stage.OPENED, intent.where, intent, opened))
                await bury(self._log, opened.dead)
            else:
                opened = self._backfill.aimed(opened)
            for block in opened.blocks:
                await self._insert(opened, block, subscription)
        ledger.add(opened.taken)
        return opened.without_data()

    async def _insert(self, opened: Opened, block: Block, subscription: Subscription) -> None:
        intent = opened.intent
        async for attempt in self._retries(StoreUnavailableError):
            with attempt:
                self._check_generation(subscription)
                self._notify(Progress(Stage.INSERTING, intent.where, intent, opened, block))
                try:
                    await self._thread(lambda: self._writer.insert(block))
                except StoreUnavailableError as error:
                    refused = Progress(Stage.REFUSED, intent.where, intent, opened, block, str(error), error.kind)
                    self._notify(refused)
                    raise
        self._notify(Progress(Stage.INSERTED, intent.where, intent, opened, block))

    def _retries(self, on: type[Exception] | Callable[[Exception], bool]) -> AsyncIterator[stamina.Attempt]:
        return aiter(
            stamina.retry_context(
                on=on,
                attempts=None,
                timeout=None,
                wait_initial=RETRY_FIRST_S,
                wait_max=self._config.retry_max_s,
                wait_jitter=RETRY_FIRST_S,
            )
        )

    def _check_poison(self, opened: Opened) -> None:
        where, limit = opened.intent.where, self._config.poison_limit
        run = max(self._poison[where] + opened.poison_head, opened.poison_run)
        if run > limit:
            last = opened.dead[-1]
            raise PoisonError(
                f"{run} messages in a row on {where} up to offset {last.message.offset} cannot be opened (last: "
                f"{last.reason}: {last.detail}). So many are a bad deployment, not bad luck: fix or upgrade what "
                f"writes or reads them. Nothing was passed over; raise poison_limit above {run} to dead-letter them."
            )
        for letter in opened.dead:
            log.error(
                "message goes to the dead letters",
                where=str(where),
                offset=letter.message.offset,
                reason=letter.reason,
                detail=letter.detail,
            )

    async def _expired(self, subscription: Subscription, error: OffsetOutOfRangeError) -> None:
        where = error.where
        pending = self._planner.abandon(where)
        resume = error.first
        if pending is not None and error.first <= pending.hi < error.end:
            resume = pending.hi + 1  # part of it may be stored; inserting the rest by another name could double it
        self._notify(Progress(Stage.EXPIRED, where, error=str(error), count=max(0, resume - error.wanted)))
        log.error(
            "messages left the log before they were loaded; keep the log longer or load faster",
            where=str(where),
            wanted=error.wanted,
            resumed=resume,
        )
        await subscription.seek(where, resume)
        self._positions[where] = self._passed[where] = resume

    def _committed(self, finished: Iterable[Opened]) -> None:
        for opened in finished:
            where = opened.intent.where
            self._passed[where] = opened.intent.hi + 1
            # Only now: a range that is tried again has no more poison than it had the first time.
            before = self._poison[where] if opened.poison_run == opened.messages else 0
            self._poison[where] = before + opened.poison_tail
            self._notify(Progress(Stage.COMMITTED, where, opened.intent, opened))

    def _notify(self, progress: Progress) -> None:
        self.alive_at = time.monotonic()
        for observer in self._observers:
            observer(progress)

    async def _thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _passed(finished: Iterable[Opened]) -> dict[TopicPartition, Committed]:
    return {opened.intent.where: Committed(opened.intent.hi + 1) for opened in finished}


def _rounds(ranges: Sequence[Range]) -> list[list[Range]]:
    """Split into rounds that have each partition at most once, in the order given."""
    rounds: list[list[Range]] = []
    seen: defaultdict[TopicPartition, int] = defaultdict(int)
    for source in ranges:
        where = source.intent.where
        if seen[where] == len(rounds):
            rounds.append([])
        rounds[seen[where]].append(source)
        seen[where] += 1
    return rounds


async def _all(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Await all; the first failure cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """End what still runs, and wait until it has ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
