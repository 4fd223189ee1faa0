"""Checks on a real cluster what no single host can show: `python -m collector.cluster_check --host … --cluster …`.

Makes the tables in a database of its own, `sidetone_check`, inserts the same block under the same token through every
host that it is given, and compares base tables and rollups on each of them. Drops the database at the end. Needs a
user who may create databases on the cluster; `{shard}` and `{replica}` must be set as macros on every host.
"""

# ruff: noqa: S608, T201 - names are our own constants and the operator's cluster; what it finds is printed

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from collector.blocks import Block
from collector.migrate import BOOTSTRAP, StoreSettings, migrations, placed
from collector.service import store_clients
from collector.writer import Writer
from eventlog.schema import PACKET, TIME

DATABASE: Final = "sidetone_check"
ROWS: Final = 5_000
TABLES: Final = ("packets_1s", "packets_1m", "region_1s", "region_1m")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, on one host. `found` is what was seen."""

    name: str
    host: str
    holds: bool
    found: str


def statements(cluster: str) -> list[str]:
    """Return what makes the tables, in the check's own database."""
    settings = StoreSettings(cluster=cluster)
    made = [*placed(BOOTSTRAP, settings), *(s for m in migrations() for s in m.statements(settings))]
    return [re.sub(r"\bsidetone(?=\.| ON CLUSTER|', ')", DATABASE, statement) for statement in made]


def packets() -> Block:
    """Return a block of packets of many sessions, so that every shard gets some."""
    rng = np.random.default_rng(1)
    start = 1_790_000_000_000_000_000
    sessions = [bytes([*rng.bytes(6), 0x70, 0, 0x80, *rng.bytes(7)]) for _ in range(ROWS)]
    values = {
        "session_id": pa.array(sessions, pa.binary(16)),
        "observed_ns": pa.array(start + np.arange(ROWS) * 20_000_000, pa.int64()).cast(TIME),
        "transit_delta_us": pa.array(rng.integers(-5_000, 5_000, ROWS), pa.int32()),
    }
    columns: list[Any] = []
    for field in PACKET.schema:
        if field.name in values:
            columns.append(values[field.name])
        elif pa.types.is_dictionary(field.type):
            columns.append(pa.array(["check"] * ROWS).dictionary_encode().cast(field.type))
        elif field.nullable:
            columns.append(pa.nulls(ROWS, field.type))
        else:
            value = float(PACKET.defaults.get(field.name, 0))
            columns.append(pa.array(np.full(ROWS, value), pa.float64()).cast(field.type))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PACKET.schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=PACKET.schema))
    return Block(PACKET.table, tuple(PACKET.schema.names), "check:0", ROWS, sink.getvalue())


def check(clients: dict[str, Callable[[], Client]], cluster: str) -> list[Check]:
    """Make the tables, insert through every host, and compare on every host."""
    first = next(iter(clients.values()))()
    drop = f"DROP DATABASE IF EXISTS {DATABASE} ON CLUSTER '{cluster}' SYNC"
    first.command(drop)
    found: list[Check] = []
    try:
        for statement in statements(cluster):
            first.command(statement)
        block = packets()
        for make in clients.values():
            Writer(make, database=DATABASE).insert(block)
            Writer(make, database=DATABASE).insert(block)
        for host, make in clients.items():
            client = make()
            for table in (block.table, *TABLES):
                client.command(f"SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' {DATABASE}.{table}_local")
                counted = "count()" if table == block.table else "sum(packets)"
                rows = client.command(f"SELECT {counted} FROM {DATABASE}.{table}")
                found.append(Check(f"{table} has every fact once", host, int(str(rows)) == ROWS, str(rows)))
            shards = client.command(f"SELECT uniqExact(_shard_num) FROM {DATABASE}.{block.table}")
            wanted = client.command(f"SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = '{cluster}'")
            found.append(Check("every shard has sessions", host, shards == wanted, f"{shards} of {wanted}"))
            windows = client.command(
                "SELECT uniqExact(extract(create_table_query, 'replicated_deduplication_window = (\\\\d+)')) "
                f"FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE 'Replicated%'"
            )
            found.append(Check("all tables remember as many inserts", host, windows == 1, f"{windows} values"))
    finally:
        first.command(drop)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and print; exit status 0 if all holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="append", required=True, help="a host, `name:port`; give each replica once")
    parser.add_argument("--cluster", required=True, help="name in system.clusters")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    options = parser.parse_args(arguments)
    clients = {}
    for given in options.host:
        name, _, port = given.partition(":")
        clients[given] = store_clients(
            name, int(port or 8123), timeout_s=60, user=options.user, password=options.password
        )
    found = check(clients, options.cluster)
    for one in found:
        print(f"{'ok  ' if one.holds else 'FAIL'} {one.host:24} {one.name}: {one.found}")
    sys.exit(0 if all(one.holds for one in found) else 1)


if __name__ == "__main__":
    main()
