"""The same migrations for a cluster: every statement on all hosts, tables replicated, facts sharded by session.

Facts and rollups stand in `…_local` tables on every shard, behind a Distributed table of the plain name, which the
collector writes to and everybody reads from. A session is on one shard, so a range's rows are split among the shards
the same way each time and the token keeps its meaning on each. What the collector keeps about itself (ledger,
migrations, rebuilds) is small and is on every host in full.
"""

from __future__ import annotations

import re
from typing import Final

from collector.errors import CollectorHaltedError

_TABLE: Final = re.compile(
    r"CREATE TABLE IF NOT EXISTS sidetone\.(?P<name>\w+)\s*(?P<columns>\(.*?\))\s*"
    r"ENGINE = (?P<engine>\w*MergeTree)\s+(?P<rest>.*)",
    re.DOTALL,
)
_VIEW: Final = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone\.(?P<name>\w+) TO sidetone\.(?P<to>\w+) AS\n(?P<select>.*)",
    re.DOTALL,
)
_FROM: Final = re.compile(r"\bFROM sidetone\.(\w+)")
_ALTER: Final = re.compile(r"ALTER TABLE sidetone\.(?P<name>\w+)\s+(?P<codecs>MODIFY COLUMN .* CODEC\(.*)", re.DOTALL)
"""Codecs only: what changes a column's type must change the Distributed table, too."""

_ADD: Final = re.compile(r"ALTER TABLE sidetone\.(?P<name>\w+)\s+(?P<columns>ADD COLUMN IF NOT EXISTS .*)", re.DOTALL)
_QUERY: Final = re.compile(r"ALTER TABLE sidetone\.(?P<name>\w+) MODIFY QUERY\n(?P<select>.*)", re.DOTALL)

_DROP: Final = re.compile(r"DROP TABLE IF EXISTS sidetone\.(?P<name>\w+)")
_EVERYWHERE: Final = frozenset({"chunks", "migrations", "rebuilds"})
"""On every host in full."""

_WINDOW: Final = "replicated_deduplication_window"
_SECONDS: Final = "replicated_deduplication_window_seconds = 604800"
"""Replicated tables forget tokens by age, too; a week, as the log keeps messages. Its default differs by release."""

_CLUSTER_NAME: Final = re.compile(r"\w[\w.-]*|\{cluster\}")


def on_cluster(statement: str, cluster: str) -> list[str]:
    """Return what a single host's statement becomes on a cluster.

    Args:
        statement: one of a migration's, for a single host.
        cluster: name of the cluster in the servers' configuration, or the macro `{cluster}`.

    Raises:
        CollectorHaltedError: the name is none, or the statement is of a form that is not known here.

    """
    if not _CLUSTER_NAME.fullmatch(cluster):
        raise CollectorHaltedError(f"{cluster!r} is no name of a cluster; see system.clusters for those there are")
    everywhere = f"ON CLUSTER '{cluster}'"
    if statement == "CREATE DATABASE IF NOT EXISTS sidetone":
        return [f"{statement} {everywhere}"]
    if match := _TABLE.fullmatch(statement):
        return _table(match, cluster, everywhere)
    if match := _VIEW.fullmatch(statement):
        view = f"CREATE MATERIALIZED VIEW IF NOT EXISTS sidetone.{match['name']} {everywhere}"
        return [f"{view} TO sidetone.{match['to']}_local AS\n{_of_shard(match['select'])}"]
    if statement.startswith("ALTER"):
        return _altered(statement, everywhere)
    if statement.startswith("RENAME"):  # views only, which have one name everywhere
        return [f"{statement} {everywhere}"]
    if match := _DROP.fullmatch(statement):
        names = (match["name"], f"{match['name']}_local")
        return [f"DROP TABLE IF EXISTS sidetone.{name} {everywhere} SYNC" for name in names]
    raise _unknown(statement)


def _unknown(statement: str) -> CollectorHaltedError:
    return CollectorHaltedError(f"no form of this statement is known for a cluster: {statement.splitlines()[0]}")


def _altered(statement: str, everywhere: str) -> list[str]:
    if match := _ALTER.fullmatch(statement):
        return [f"ALTER TABLE sidetone.{match['name']}_local {everywhere}\n    {match['codecs']}"]
    if match := _QUERY.fullmatch(statement):
        return [f"ALTER TABLE sidetone.{match['name']} {everywhere} MODIFY QUERY\n{_of_shard(match['select'])}"]
    if match := _ADD.fullmatch(statement):
        # The shards first: until they have the columns, nobody may ask for them.
        names = (f"{match['name']}_local", match["name"])
        return [f"ALTER TABLE sidetone.{name} {everywhere}\n    {match['columns']}" for name in names]
    raise _unknown(statement)


def _of_shard(select: str) -> str:
    return _FROM.sub(lambda source: f"FROM sidetone.{source[1]}_local", select)


def _table(match: re.Match[str], cluster: str, everywhere: str) -> list[str]:
    name, columns, engine = match["name"], match["columns"], match["engine"]
    rest = match["rest"].strip().replace("non_replicated_deduplication_window", f"{_SECONDS},\n    {_WINDOW}")
    if name in _EVERYWHERE:
        # One path for all: shards and replicas alike are its replicas.
        replicated = f"Replicated{engine}('/clickhouse/tables/{{database}}/{name}', '{{shard}}-{{replica}}')"
        return [f"CREATE TABLE IF NOT EXISTS sidetone.{name} {everywhere}\n{columns}\nENGINE = {replicated}\n{rest}"]
    replicated = f"Replicated{engine}('/clickhouse/tables/{{shard}}/{{database}}/{name}', '{{replica}}')"
    local = f"CREATE TABLE IF NOT EXISTS sidetone.{name}_local {everywhere}\n{columns}\nENGINE = {replicated}\n{rest}"
    # A table without sessions is filled by views on the shards only, and read from all of them.
    key = ", cityHash64(session_id)" if re.search(r"^\s*session_id ", columns, re.MULTILINE) else ""
    distributed = f"Distributed('{cluster}', 'sidetone', '{name}_local'{key})"
    return [
        local,
        f"CREATE TABLE IF NOT EXISTS sidetone.{name} {everywhere} AS sidetone.{name}_local\nENGINE = {distributed}",
    ]
