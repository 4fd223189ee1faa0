"""Minutes of the virtual day: calls leave nothing behind."""

from __future__ import annotations

from bench.soak import virtual


def test_calls_leave_nothing_behind() -> None:
    found = virtual(0.05, call_s=15)
    assert found["calls"] == 12
    assert found["turns"] > 0
    assert found["facts"] > 10_000
    assert found["objects_late"] - found["objects_early"] < 500
    assert found["resident_mib_late"] - found["resident_mib_early"] < 20
