"""Callers on the real thing: signalling, edge and transceiver of the relay, and their facts read back from the log."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from relay.app import create_app
from relay.caller import CallReport, FleetConfig, run_fleet
from relay.caller.truth import compare
from tests.integration.transceiver_tools import World, world

PATIENCE_S = 40


@asynccontextmanager
async def signalling(running: World) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(running.transceiver)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def turn_rows(facts: list[dict[str, Any]], session_id: uuid.UUID) -> list[dict[str, Any]]:
    """One row a turn: the last end of the user's speech before the answer, and the answer's beginning and end."""
    rows: dict[int, dict[str, Any]] = {}
    for fact in facts:
        row = rows.setdefault(
            fact["turn_id"],
            {"session_id": str(session_id), "turn_id": fact["turn_id"], "listener_ms": None}
            | dict.fromkeys(("user_speech_stopped_ns", "agent_audio_started_ns", "agent_audio_stopped_ns")),
        )
        if f"{fact['kind']}_ns" in row and row["agent_audio_stopped_ns"] is None:
            row[f"{fact['kind']}_ns"] = fact["at_ns"]
    return list(rows.values())


async def test_the_platform_measures_what_the_callers_know(tmp_path: Path) -> None:
    stop = asyncio.Event()
    seen: Counter[tuple[int, str]] = Counter()

    def on_progress(report: CallReport, what: str) -> None:
        seen[report.call, what] += 1
        if seen[0, "heard"] and seen[1, "said"] >= 2:
            stop.set()

    async with asyncio.timeout(PATIENCE_S), world(tmp_path) as running:
        async with signalling(running) as url:
            regions = [("north", "hotel-wifi"), ("north", "office-wifi")]
            config = FleetConfig(url, 2, regions, seconds=30.0, scripts=["simple", "barge-in"])
            report = await run_fleet(config, on_progress, stop=stop)
        await running.stop()
        assert [call.error for call in report.calls] == [None, None]
        for call in report.calls:
            assert call.session_id is not None
            session_id = uuid.UUID(call.session_id)
            [up], [down], [received] = call.uplink.streams, call.downlink.streams, call.received
            packets = [row for row in await running.facts("packet", session_id) if row["tap"] == "edge_up"]
            assert {row["stream"] for row in packets} == {up.ssrc}
            assert sum(row["newly_lost"] for row in packets) == up.lost_seen
            assert sum(not row["duplicate"] for row in packets) == up.delivered
            assert (received.lost, received.packets) == (down.lost_seen, down.delivered)
            clients = await running.facts("client", session_id)
            assert {"inbound-rtp", "outbound-rtp", "media-playout", "clock", "playout"} <= {
                row["kind"] for row in clients
            }
            for row in clients:
                if row["kind"] in ("clock", "playout"):  # both ends have one clock, so the offset lies within its error
                    values = dict(row["values"])
                    assert abs(values["clock_offset_ms"]) <= values["clock_error_ms"]
            inbound = [row for row in clients if row["kind"] == "inbound-rtp"]
            last = dict(max(inbound, key=lambda row: row["client_ns"])["values"])
            assert last["packetsLost"] == down.lost_seen
            turns = turn_rows(await running.facts("turn", session_id), session_id)
            result = compare([call_as_dict(report, call)], turns)
            assert result.heard > 0
            assert result.missed == 0


def call_as_dict(report: Any, call: CallReport) -> dict[str, Any]:
    found: dict[str, Any] = report.to_dict()["calls"][report.calls.index(call)]
    return found
