"""A token means the same rows before and after a migration, and before and after the store's next start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.facts import sample
from collector import migrate, store_clients
from collector.blocks import Block
from collector.migrate import migrations
from collector.writer import Writer
from eventlog.schema import PACKET
from sidetone.store.process import StoreProcess

ROWS = 100
COUNTS = "SELECT count() FROM sidetone.packets"
ROLLUPS = ("packets_1s", "packets_1m", "region_1s", "region_1m")
VIEWS_CHANGE = 8
"""The first migration that changes the query of a view that stands."""


def block(columns: list[str]) -> Block:
    """Return the same rows each time."""
    batch = sample(PACKET, ROWS, np.random.default_rng(1)).select(columns)
    ones = pa.array(np.ones(ROWS), pa.uint32())  # so that a rollup's packets are rows
    if "represents" in columns:
        batch = batch.set_column(columns.index("represents"), PACKET.schema.field("represents"), ones)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Block("packets", tuple(columns), "e:sidetone.packets:0:0-0:2026-09-21", ROWS, sink.getvalue())


@pytest.mark.parametrize("before", [VIEWS_CHANGE - 1, VIEWS_CHANGE, migrations()[-1].version])
def test_a_replay_after_a_migration_and_a_restart_doubles_nothing(tmp_path: Path, before: int) -> None:
    columns = [name for name in PACKET.schema.names if name != "represents" or before >= VIEWS_CHANGE]
    store = StoreProcess(tmp_path / "store")
    clients = store_clients(store.host, store.port, timeout_s=30)

    def stored() -> list[int]:
        client = clients()
        sums = [f"SELECT sum(packets) FROM sidetone.{table}" for table in ROLLUPS]
        return [int(str(client.command(question))) for question in (COUNTS, *sums)]

    try:
        migrate(clients(), known=[migration for migration in migrations() if migration.version <= before])
        Writer(clients).insert(block(columns))
        assert stored() == [ROWS] * 5
        migrate(clients())
        Writer(clients).insert(block(columns))
        assert stored() == [ROWS] * 5
        store.kill()
        store = StoreProcess(tmp_path / "store", store.port)
        Writer(clients).insert(block(columns))
        assert stored() == [ROWS] * 5
    finally:
        store.kill()
