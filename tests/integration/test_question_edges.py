"""Questions at their edges: calls that outlast a window, odd parameters, and what a health check may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from analytics import connect, run
from analytics.api import create_app
from tests.integration.stored_calls import SECOND, T0_NS, Call, Facts, running_store, writer

Address = tuple[str, int]
PACKETS = 5_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    facts = Facts()
    long = Call(facts, 1)
    long.step("offered", 0, client="by-hand")
    for turn in range(1, 21):  # twenty minutes, a turn in each
        began = turn * 60_000.0
        long.exchange(turn, began, began + 1_000, began + 1_000 + (4_000 if turn == 20 else 800), began + 8_000)
    long.step("closed", 1_230_000, reason="hangup", who="user")
    for number in range(PACKETS):
        long.packet("edge_up", number, 20.0 * number)
    with running_store(tmp_path_factory.mktemp("store")) as address:
        with contextlib.closing(writer(*address)) as client:
            facts.store(client)
        yield address


def test_a_call_counts_whole_though_it_outlasts_the_window_by_far(store: Address) -> None:
    with contextlib.closing(connect(*store)) as client:
        window = {"from": T0_NS, "to": T0_NS + 60 * SECOND}
        (row,) = run(client, "sessions", window).records()
        assert (row["turns"], row["latency_n"], row["latency_max_ms"]) == (20, 20, 4_000)
        assert "late_response" in row["error_kinds"]
        (always,) = run(client, "sessions", {"from": T0_NS, "to": T0_NS + 3_600 * SECOND}).records()
        assert row == always


def test_no_slices_are_one(store: Address) -> None:
    with contextlib.closing(connect(*store)) as client:
        (session,) = run(client, "sessions", {"from": T0_NS, "to": T0_NS + SECOND}).column("session_id")
        rows = run(client, "session_packets", {"session": session, "points": 0, "slices": 0}).records()
        assert sum(row["packets"] for row in rows) == PACKETS


def test_readiness_does_not_read_what_is_stored(store: Address) -> None:
    with contextlib.closing(writer(*store)) as client, TestClient(create_app(*store)) as api:

        def rows_read() -> int:
            (found,) = client.query("SELECT sum(value) FROM system.events WHERE event = 'SelectedRows'").result_rows
            return int(found[0])

        assert api.get("/readyz").status_code == 200  # connects, which asks for settings
        before = rows_read()
        assert api.get("/readyz").status_code == 200
        assert rows_read() - before < PACKETS  # the counter's own table has rows, too
