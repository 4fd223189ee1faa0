"""Rebuilding: tables are emptied and loaded from the log once more, while new facts keep arriving.

1. Own the whole group for a moment, so that no other collector commits. Note each partition's position, then empty the
   tables. A range that was planned and not committed lies above the note; its owner inserts it again, by its token.
2. Leave the group. The collectors go on above the note, into the emptied tables.
3. Load what lies below the note, as a group of its own, with intents and tokens as ever. What was cut off goes on from
   its own positions.

A raw table is rebuilt with the rollups that hang on it. Rollups alone are fed through a table of their own, which has
the views of the rebuilt rollups and no others.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client

from collector.collector import Backfill, Collector
from collector.config import CollectorConfig
from collector.migrate import migrations
from collector.progress import Progress, Stage
from collector.writer import DATABASE, ClientFactory
from eventlog.alone import subscribe_alone
from eventlog.port import Committed, EventLog, FencedError, TopicPartition
from eventlog.schema import FACTS, PACKET, FactType

log = structlog.get_logger("sidetone.collector")

ROLLUPS: Final[dict[str, tuple[str, ...]]] = {
    "packets_1s": ("packets_1s", "packets_1m"),
    "region_1s": ("region_1s", "region_1m"),
}
"""Rollups that hang on packets directly, and what hangs on each."""

_ATTEMPTS: Final = 5
LATEST: Final = """
    SELECT id, argMax(step, at_ns) AS last, argMax(tables, at_ns), argMax(upto, at_ns)
    FROM sidetone.rebuilds GROUP BY id HAVING last != 'done' ORDER BY max(at_ns) DESC
"""

Report = Callable[[int, int], None]
"""Called with messages loaded and messages to load."""


class RebuildError(Exception):
    """Tables cannot be rebuilt. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was done.

    Attributes:
        tables: emptied and loaded.
        messages: loaded from the log.
        resumed: whether an earlier run had begun it.

    """

    tables: tuple[str, ...]
    messages: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A rebuild as the store keeps it."""

    id: str
    tables: tuple[str, ...]
    upto: Mapping[TopicPartition, int]

    @property
    def facts(self) -> list[FactType]:
        """Types to load."""
        rollups = any(table in ROLLUPS for table in self.tables)
        return [fact for fact in FACTS.values() if fact.table in self.tables or (fact is PACKET and rollups)]

    @property
    def funnel(self) -> str | None:
        """Table that feeds rollups which are rebuilt without their raw facts."""
        return None if PACKET.table in self.tables or PACKET not in self.facts else f"packets_rebuild_{self.id}"


def tables_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the tables to be emptied for the ones named: with what hangs on them, and what they hang on.

    Raises:
        RebuildError: there is no such table, or it is not made from the log.

    """
    found: set[str] = set()
    raw = {fact.table for fact in FACTS.values()}
    family = {table: tables for tables in ROLLUPS.values() for table in tables}
    for name in names:
        if name not in raw | family.keys():
            known = ", ".join(sorted(raw | family.keys()))
            raise RebuildError(f"{name!r} is no table that is made from the log; there are: {known}")
        found |= {name} if name in raw else set(family[name])
        if name == PACKET.table:
            found |= family.keys()
    return tuple(sorted(found))


async def rebuild(
    event_log: EventLog,
    clients: ClientFactory,
    names: Sequence[str],
    config: CollectorConfig | None = None,
    *,
    partial: bool = False,
    report: Report | None = None,
) -> Rebuilt:
    """Empty tables and load them from the log, or finish an earlier run that was to do the same.

    Args:
        event_log: the log.
        clients: makes clients of the store.
        names: tables.
        config: of the collectors that load the log.
        partial: go on even if the log no longer has all that it had; what is gone from it is lost.
        report: told how far it is.

    Raises:
        RebuildError: nothing was changed; the message says why.

    """
    config = config or CollectorConfig()
    tables = tables_of(names)
    if config.store.cluster is not None:
        raise RebuildError(
            "tables on a cluster cannot be rebuilt yet; this works on a single host. Nothing was changed."
        )
    client = await asyncio.to_thread(clients)
    job = await asyncio.to_thread(_unfinished, client, tables)
    resumed = job is not None
    if job is None:
        job = _Job(secrets.token_hex(4), tables, {})
        if not partial:
            await _check_whole(event_log, job)
        job = await _begin(event_log, client, job, config)
    loaded = await _load(event_log, clients, job, config, report)
    await asyncio.to_thread(_end, client, job)
    return Rebuilt(job.tables, loaded, resumed)


async def _check_whole(event_log: EventLog, job: _Job) -> None:
    for where in await _partitions(event_log, job):
        first, _ = await event_log.bounds(where)
        if first > 0:
            raise RebuildError(
                f"the log keeps {where} from offset {first} on only; the facts before that would be lost from "
                f"{', '.join(job.tables)}. Nothing was changed. Add --partial to rebuild from what is there."
            )


async def _begin(event_log: EventLog, client: Client, job: _Job, config: CollectorConfig) -> _Job:
    """Note the positions and empty the tables, while nobody else may commit."""
    for _ in range(_ATTEMPTS):
        try:
            async with subscribe_alone(event_log, config.group, config.topics) as member:
                wanted = await _partitions(event_log, job)
                known: dict[TopicPartition, Committed] = {}
                for where in wanted:
                    position = await member.committed(where)
                    if position is not None:
                        known[where] = position
                job = replace(job, upto={where: position.offset for where, position in known.items()})
                await member.commit(known)  # as they were: fails if another member took over meanwhile
                await asyncio.to_thread(_empty, client, job)
                await member.commit(known)
                await asyncio.to_thread(_note, client, job, "emptied")
                return job
        except FencedError as error:
            log.warning("another collector took over in between; trying again", detail=str(error))
    raise RebuildError(
        f"the group {config.group} could not be held for a moment; stop the collectors, run this again, start them"
    )


async def _load(
    event_log: EventLog, clients: ClientFactory, job: _Job, config: CollectorConfig, report: Report | None
) -> int:
    passed: dict[TopicPartition, int] = {}
    total = 0
    for where, position in job.upto.items():
        total += max(0, position - (await event_log.bounds(where))[0])

    def watch(progress: Progress) -> None:
        if progress.stage is Stage.COMMITTED and progress.opened is not None and progress.where is not None:
            passed[progress.where] = passed.get(progress.where, 0) + progress.opened.messages
            if report is not None:
                report(sum(passed.values()), total)

    for fact in job.facts:
        upto = {where: position for where, position in job.upto.items() if where.topic == fact.topic}
        own = replace(config, group=f"{config.group}-rebuild-{job.id}-{fact.name}", topics=(fact.topic,))
        backfill = Backfill(upto, job.funnel if fact is PACKET else None)
        # Whoever is without partitions for a moment has nothing left to load; only the positions tell the end.
        while not await _loaded(event_log, own, upto):
            await Collector(event_log, clients, own, observers=[watch], backfill=backfill).drain()
    return sum(passed.values())


async def _loaded(event_log: EventLog, config: CollectorConfig, upto: Mapping[TopicPartition, int]) -> bool:
    """Tell whether the group's positions have reached where they are to."""
    member = event_log.subscribe(config.group, config.topics)  # positions can be read without joining
    try:
        for where, position in upto.items():
            first, _ = await event_log.bounds(where)
            committed = await member.committed(where)
            reached = committed.offset if committed is not None and not committed.metadata else first
            if reached < position:
                return False
    finally:
        await member.aclose()
    return True


async def _partitions(event_log: EventLog, job: _Job) -> list[TopicPartition]:
    return [
        TopicPartition(fact.topic, number)
        for fact in job.facts
        for number in range(await event_log.partitions(fact.topic))
    ]


def _unfinished(client: Client, tables: tuple[str, ...]) -> _Job | None:
    """Return the rebuild of these tables that was cut off after they were emptied, if there is one."""
    for number, _, of, upto in client.query(LATEST).result_rows:
        if tuple(of) == tables:
            return _Job(number, tables, {_where(name): offset for name, offset in upto.items()})
        if set(of) & set(tables):
            raise RebuildError(
                f"a rebuild of {', '.join(of)} was cut off; finish it first: sidetone rebuild {' '.join(of)}"
            )
    return None


def _empty(client: Client, job: _Job) -> None:
    if job.funnel is not None:
        client.command(f"CREATE TABLE IF NOT EXISTS {DATABASE}.{job.funnel} AS {DATABASE}.{PACKET.table}")
        for rollup in ROLLUPS:
            if rollup in job.tables:
                client.command(_view_of(rollup, job))
    for table in job.tables:
        client.command(f"TRUNCATE TABLE {DATABASE}.{table}")


def _view_of(rollup: str, job: _Job) -> str:
    """Return the statement that feeds a rollup from the job's own table as its view does from packets."""
    name = f"{DATABASE}.{rollup}_mv"
    made = f"CREATE MATERIALIZED VIEW IF NOT EXISTS {DATABASE}.{_view(rollup, job)} TO {DATABASE}.{rollup} AS\n"
    forms = (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {name} TO {DATABASE}.{rollup} AS\n",
        f"ALTER TABLE {name} MODIFY QUERY\n",
    )
    # The last word on a view is the one that holds.
    for statement in reversed([s for migration in migrations() for s in migration.statements()]):
        for form in forms:
            if statement.startswith(form):
                select = statement.removeprefix(form)
                return made + select.replace(f"FROM {DATABASE}.{PACKET.table} ", f"FROM {DATABASE}.{job.funnel} ")
    raise RebuildError(f"no migration has a view {name}")


def _view(rollup: str, job: _Job) -> str:
    return f"{rollup}_rebuild_{job.id}_mv"


def _end(client: Client, job: _Job) -> None:
    if job.funnel is not None:
        for rollup in ROLLUPS:
            client.command(f"DROP VIEW IF EXISTS {DATABASE}.{_view(rollup, job)}")
        client.command(f"DROP TABLE IF EXISTS {DATABASE}.{job.funnel}")
    _note(client, job, "done")


def _note(client: Client, job: _Job, step: str) -> None:
    upto = {f"{where.topic}:{where.partition}": offset for where, offset in job.upto.items()}
    client.insert(
        "rebuilds",
        [[job.id, step, list(job.tables), upto]],
        column_names=["id", "step", "tables", "upto"],
        database=DATABASE,
    )


def _where(name: str) -> TopicPartition:
    topic, _, partition = name.rpartition(":")
    return TopicPartition(topic, int(partition))
