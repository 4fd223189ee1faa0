"""From log bytes to committed rows with rollups, against the engine told to insert the same chunks from files.

Both load the same million packets into the same tables of one embedded store, rollups on, merges off while timed. The
collector's CPU seconds are its own and the store's; the limit's are the store's and those of the client that told it.
Afterwards everything is merged, and the bytes on disk are counted.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog
from clickhouse_connect.driver.client import Client

from bench.facts import START_NS, packets, record
from bench.harness import Work, arguments, report, rounds
from collector import Collector, CollectorConfig, migrate, store_clients
from eventlog.port import Record
from eventlog.schema import PACKET
from eventlog.sqlite import SqliteEventLog
from sidetone.store.process import StoreProcess

CHUNKS = 16
CHUNK_ROWS = 65_000
SESSIONS = 20
TABLES = ("packets", "packets_1s", "packets_1m", "region_1s", "region_1m")
STORED = "SELECT count(), (SELECT sum(packets) FROM sidetone.region_1m) FROM sidetone.packets"
COLUMNS = ", ".join(PACKET.schema.names)


def chunks() -> list[Record]:
    """A million packets, as an edge's emitter would append them."""
    rng = np.random.default_rng(7)
    made = []
    for number in range(CHUNKS):
        batch = packets(
            rng, sessions=SESSIONS, rows=CHUNK_ROWS, region="eu-west", start_ns=START_NS + number * 250_000_000
        )
        made.append(record(PACKET, batch, source="bench", sequence=number))
    return made


def cpu_of(pid: int) -> float:
    """CPU seconds, user and system, of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime


class Contest:
    """One store and one log, and what the contenders do with them."""

    def __init__(self, folder: Path, store: StoreProcess) -> None:
        self._folder = folder
        self._store = store
        self._clients = store_clients(store.host, store.port, timeout_s=60)
        self._client: Client = self._clients()
        self._loaded = 0
        self._rows = 0
        migrate(self._client)
        made = chunks()
        self.chunk_bytes = sum(len(one.value) for one in made)
        self.rows = sum(int(one.headers["rows"]) for one in made)
        for number, one in enumerate(made):
            (folder / f"chunk-{number:02}.arrows").write_bytes(one.value)
        asyncio.run(self._append(made))
        self._client.command("SYSTEM STOP MERGES")

    async def _append(self, made: list[Record]) -> None:
        log = SqliteEventLog(self._folder / "log.sqlite")
        await log.append(made)
        await log.aclose()

    def collector(self) -> Work:
        """The log through a collector whose group is new, so that it starts at the log's beginning."""
        self._loaded += 1
        config = CollectorConfig(group=f"bench-{self._loaded}", topics=(PACKET.topic,), fetch_bytes=32 << 20)

        async def load() -> None:
            log = SqliteEventLog(self._folder / "log.sqlite")
            await Collector(log, self._clients, config).drain()
            await log.aclose()

        return self._measured(lambda: asyncio.run(load()))

    def limit(self) -> Work:
        """The engine, given the chunks as files, with the blocks as large as the collector's."""
        files = self._folder / f"chunk-{{00..{CHUNKS - 1}}}.arrows"
        statement = f"INSERT INTO sidetone.packets ({COLUMNS}) SELECT {COLUMNS} FROM file('{files}', 'ArrowStream')"
        settings = {
            "deduplicate_insert": "disable",
            "deduplicate_insert_select": "disable",
            "max_insert_threads": 1,
            "max_threads": 1,
        }
        return self._measured(lambda: self._client.command(statement, settings=settings))

    def _measured(self, load: Callable[[], object]) -> Work:
        for table in TABLES:
            self._client.command(f"TRUNCATE TABLE sidetone.{table}")
        wall, cpu, store = time.perf_counter(), time.process_time(), cpu_of(self._store.process.pid)
        load()
        store = cpu_of(self._store.process.pid) - store
        own = time.process_time() - cpu
        wall = time.perf_counter() - wall
        stored = self._client.command(
            "SELECT count(), (SELECT sum(packets) FROM sidetone.region_1m) FROM sidetone.packets"
        )
        if stored != [str(self.rows), str(self.rows)]:
            raise AssertionError(f"{stored} rows and packets in the last rollup, not {self.rows}")
        return Work(self.rows, {"own_cpu_s": own, "store_cpu_s": store}, wall_s=wall, cpu_s=own + store)

    def bytes_per_fact(self) -> dict[str, float]:
        """Bytes on disk per packet, once everything is merged."""
        self._client.command("SYSTEM START MERGES")
        sizes = {}
        for table in TABLES:
            self._client.command(f"OPTIMIZE TABLE sidetone.{table} FINAL")
            size = self._client.command(
                "SELECT sum(bytes_on_disk) FROM system.parts "
                f"WHERE database = 'sidetone' AND table = '{table}' AND active"
            )
            sizes[table] = int(str(size)) / self.rows
        return sizes


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the result
    with tempfile.TemporaryDirectory() as name, StoreProcess(Path(name) / "store") as store:
        contest = Contest(Path(name), store)
        found = rounds({"collector": contest.collector, "limit": contest.limit}, options.rounds)
        sizes = contest.bytes_per_fact()
    ours, limit = found["collector"], found["limit"]
    report(
        {
            "facts_per_core_second": ours.per_cpu_s,
            "limit_facts_per_core_second": limit.per_cpu_s,
            "ratio_to_limit": ours.per_cpu_s / limit.per_cpu_s,
            "facts_per_second": ours.per_s,
            "limit_facts_per_second": limit.per_s,
            "collector_cpu_s": ours.detail["own_cpu_s"],
            "store_cpu_s": ours.detail["store_cpu_s"],
            "limit_cpu_s": limit.cpu_s,
            "facts": contest.rows,
            "bytes_per_fact": sum(sizes.values()),
            "bytes_per_fact_by_table": sizes,
            "chunk_bytes_per_fact": contest.chunk_bytes / contest.rows,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
