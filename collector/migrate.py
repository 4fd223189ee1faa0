"""Numbered SQL migrations: applied in order, once each, and recorded with a checksum in `sidetone.migrations`.

A migration that was applied is never edited; the next change is a new file. ClickHouse has no transaction over DDL, so
every statement is written to be repeatable (`IF NOT EXISTS`): a migration that was cut off half-way, or run by two
collectors at once, is simply run again.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client

from collector.cluster import on_cluster
from collector.errors import CollectorHaltedError

log = structlog.get_logger("sidetone.collector")

BOOTSTRAP: Final = (
    "CREATE DATABASE IF NOT EXISTS sidetone",
    """
    CREATE TABLE IF NOT EXISTS sidetone.migrations
    (version UInt32, name String, checksum String, applied_ns DateTime64(9, 'UTC') DEFAULT now64(9))
    ENGINE = MergeTree ORDER BY version
    """,
)
# Two collectors that start together may both record a migration; the same row twice says nothing else.
APPLIED: Final = "SELECT version, any(name), any(checksum) FROM sidetone.migrations GROUP BY version"
RECORD: Final = """
    INSERT INTO sidetone.migrations (version, name, checksum)
    SELECT {version:UInt32}, {name:String}, {checksum:String}
"""


_MODIFIED: Final = re.compile(r"ALTER TABLE sidetone\.(\w+) MODIFY QUERY\b")


class MigrationError(CollectorHaltedError):
    """The store's schema cannot be brought up to date. The message says which migration, and what to do."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the tables are made with. Changing a value later does not alter tables that stand.

    Attributes:
        dedup_window: inserts that every table remembers by their token. It must exceed the inserts into one table,
            over all collectors, during the longest outage after which a pending range is replayed.
        cluster: name of the cluster whose hosts all have the tables, replicated and sharded by session; None for one
            host.
        ttl_facts_days: days that raw facts are kept; None keeps them for good.
        ttl_audio_days: days that recorded audio is kept.
        ttl_chunks_days: days that the ledger keeps chunks. Keep it above what a spool may hold: a chunk that is sent
            again later than that would be stored twice.
        ttl_rollup_1s_days: days that one-second rollups are kept.
        ttl_rollup_1m_days: days that one-minute rollups are kept.

    """

    dedup_window: int = 10_000
    cluster: str | None = None
    ttl_facts_days: int | None = None
    ttl_audio_days: int | None = None
    ttl_chunks_days: int | None = None
    ttl_rollup_1s_days: int | None = None
    ttl_rollup_1m_days: int | None = None

    def variables(self) -> dict[str, str]:
        """Return the values for the placeholders in the SQL files."""
        return {
            "dedup_window": str(self.dedup_window),
            "ttl_facts": _ttl("toDateTime(observed_ns, 'UTC')", self.ttl_facts_days),
            "ttl_audio": _ttl("toDateTime(observed_ns, 'UTC')", self.ttl_audio_days),
            "ttl_chunks": _ttl("toDateTime(appended_ns, 'UTC')", self.ttl_chunks_days),
            "ttl_rollup_1s": _ttl("second", self.ttl_rollup_1s_days),
            "ttl_rollup_1m": _ttl("minute", self.ttl_rollup_1m_days),
        }


def _ttl(column: str, days: int | None) -> str:
    return "" if days is None else f"TTL {column} + toIntervalDay({days})"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. `checksum` is of its text before placeholders are filled in."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, settings: StoreSettings | None = None) -> list[str]:
        """Return the statements, placeholders filled in, comments dropped."""
        filled = string.Template(self.text).substitute((settings or StoreSettings()).variables())
        without_comments = re.sub(r"^\s*--.*$", "", filled, flags=re.MULTILINE)
        split = [s.strip() for s in re.split(r";\s*$", without_comments, flags=re.MULTILINE) if s.strip()]
        return placed([step for statement in split for step in _steps(statement)], settings)


def _steps(statement: str) -> list[str]:
    """Return a statement with what has to follow it.

    A view whose query was modified gives its target's blocks other tokens until the store is started again (seen in
    ClickHouse 26.9), and a range that is replayed after that would be in the rollup twice. A renaming, to and fro, has
    the view registered anew, and its tokens are what they were before the change and are after a restart.
    """
    match = _MODIFIED.match(statement)
    if match is None:
        return [statement]
    name = f"sidetone.{match[1]}"
    return [statement, f"RENAME TABLE {name} TO {name}_renamed, {name}_renamed TO {name}"]


def placed(statements: Iterable[str], settings: StoreSettings | None) -> list[str]:
    """Return statements for one host as the settings want them: as they are, or for a cluster."""
    if settings is None or settings.cluster is None:
        return list(statements)
    return [placed for statement in statements for placed in on_cluster(statement.strip(), settings.cluster)]


def migrations() -> list[Migration]:
    """Return the migrations that ship with this version, in order."""
    return sorted(_files(), key=lambda m: m.version)


def _files() -> Iterator[Migration]:
    for entry in (resources.files("collector") / "migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match:
            yield Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))


def migrate(client: Client, settings: StoreSettings | None = None, known: list[Migration] | None = None) -> list[str]:
    """Bring the store's tables up to date and return the names of the migrations applied now (`0001_facts`).

    Blocking. Safe to run again, and by several collectors at the same time.

    Args:
        client: any clickhouse_connect client that may create tables.
        settings: what new tables are made with.
        known: migrations to apply instead of those that ship (for tests).

    Raises:
        MigrationError: a migration that the store has applied was edited since, or the store is newer than this
            program.

    """
    settings = settings or StoreSettings()
    known = migrations() if known is None else known
    for statement in placed(BOOTSTRAP, settings):
        client.command(statement)
    rows = client.query(APPLIED).result_rows
    done = {int(version): (str(name), str(checksum)) for version, name, checksum in rows}
    _check(done, known)
    applied = []
    for migration in known:
        if migration.version in done:
            continue
        for statement in migration.statements(settings):
            client.command(statement)
        client.command(
            RECORD, parameters={"version": migration.version, "name": migration.name, "checksum": migration.checksum}
        )
        applied.append(f"{migration.version:04}_{migration.name}")
        log.info("migration applied", migration=applied[-1])
    return applied


def _check(done: dict[int, tuple[str, str]], known: list[Migration]) -> None:
    ours = {m.version: m for m in known}
    for version, (name, checksum) in sorted(done.items()):
        if version not in ours:
            raise MigrationError(
                f"the store has migration {version:04}_{name}, which this version of Sidetone does not know: "
                "the store was made by a newer one. Run that, or point this one at another data directory."
            )
        if ours[version].checksum != checksum:
            raise MigrationError(
                f"migration {version:04}_{name} was edited after the store applied it (stored checksum "
                f"{checksum[:12]}…, file has {ours[version].checksum[:12]}…). Restore the file and put the change "
                "into a new migration."
            )
