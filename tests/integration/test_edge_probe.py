"""The way between an edge and a transceiver is measured without a call."""

from __future__ import annotations

from pathlib import Path

from eventlog.schema import NO_SESSION
from tests.integration.transceiver_tools import World, until


async def test_an_edge_probes_its_transceivers(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    try:
        await until(lambda: world.edge.counters().emitted["leg"] >= 2)
        assert world.edge.counters().dropped.get("malformed_probe", 0) == 0
        assert "bad_probe" not in world.transceiver.counters.drops
    finally:
        await world.stop()
    rows = await world.facts("leg")
    assert {(r["session_id"], r["leg"], r["method"], r["region"], r["remote_region"]) for r in rows} == {
        (NO_SESSION, "edge_transceiver", "probe", "north", "core")
    }
    assert all(row["rtt_us"] < 10_000_000 for row in rows)
