"""What the pages ask, at size: ten million packets of 850 calls within an hour, and the latency of every question.

Beside each question stands a scan: the time to read one column of all packets of the same store in the same round
(`count()` without the shortcut by which an engine knows the number of its rows). `vs_scan` is the question's latency
over the scan's. CPU is the store's own, of all its threads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clickhouse_connect

from analytics import connect, run
from bench.collector import cpu_of
from bench.facts.calls import PACKETS, fill
from bench.harness import Work, arguments, report, rounds
from collector.migrate import migrate
from sidetone.store.process import StoreProcess

START_MS = 1_790_000_040_000
SPAN_S = 3_600
ROWS = 10_000_000
SCAN = "SELECT count() FROM sidetone.packets SETTINGS optimize_trivial_count_query = 0"
SOME_CALL = "SELECT toString(session_id) FROM sidetone.sessions ORDER BY session_id LIMIT 1 OFFSET 100"


def asked(session: str) -> dict[str, dict[str, Any]]:
    """Questions as the pages ask them, with their parameters; `name:variant` asks one in another way."""
    start = START_MS * 1_000_000  # a whole minute, as the pages' windows are
    hour = {"from": start, "to": start + SPAN_S * 1_000_000_000}
    return {
        "overview": hour | {"total": True},
        "overview_series": hour | {"slice_s": 120},
        "overview:ragged": {"from": start + 20_000_000_000, "to": hour["to"] - 20_000_000_000, "total": True},
        "overview_series:fine": hour | {"slice_s": 30},
        "sessions": hour | {"errors": True, "limit": 12},
        "legs": hour,
        "silence": hour | {"one_way": True, "limit": 12},
        "session": {"session": session},
        "turn_errors": hour | {"session": session},
        "session_waterfall": {"session": session},
        "loss_by_stream": hour | {"session": session},
        "session_packets": {"session": session},
        "session_lanes": {"session": session},
        "session_turns": {"session": session},
        "legs:session": hour | {"session": session},
        "silence:session": hour | {"session": session},
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=ROWS, help="packets in the store (default 10 million)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, StoreProcess(Path(folder) / "store") as store:
        writer = clickhouse_connect.get_client(host=store.host, port=store.port, send_receive_timeout=600)
        migrate(writer)
        loading = time.perf_counter()
        calls = max(101, options.rows // PACKETS + 1)
        fill(writer, calls, start_ms=START_MS, span_s=SPAN_S)
        loading = time.perf_counter() - loading
        rows = int(str(writer.command("SELECT count() FROM sidetone.packets")))
        client = connect(store.host, store.port)
        questions = asked(str(writer.command(SOME_CALL)))

        def timed(ask: Callable[[], object]) -> Callable[[], Work]:
            def work() -> Work:
                cpu, wall = cpu_of(store.process.pid), time.perf_counter()
                ask()
                wall = time.perf_counter() - wall
                return Work(1, wall_s=wall, cpu_s=cpu_of(store.process.pid) - cpu)

            return work

        contenders = {"scan": timed(lambda: writer.query(SCAN))}
        for name, params in questions.items():
            contenders[name] = timed(lambda n=name, p=params: run(client, n.partition(":")[0], p))  # type: ignore[misc]
        found = rounds(contenders, options.rounds)
    scan = found.pop("scan")
    report(
        {
            "packet_rows": rows,
            "calls": calls,
            "load_s": loading,
            "scan_ms": scan.wall_s * 1e3,
            "questions": {
                name: {
                    "ms": median.wall_s * 1e3,
                    "vs_scan": median.wall_s / scan.wall_s,
                    "store_cpu_ms": median.cpu_s * 1e3,
                }
                for name, median in found.items()
            },
        },
        options.json,
    )


if __name__ == "__main__":
    main()
