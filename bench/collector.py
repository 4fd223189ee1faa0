"""From log bytes to committed rows with rollups, against the engine told to insert the same chunks from files.

Both load the same million packets into the same tables of one embedded store, rollups on, merges off while timed. The
collector's CPU seconds are its own and the store's; the limit's are the store's and those of the client that told it.
The log is a real Kafka broker (`--log sqlite` for the file), whose CPU is not counted. Afterwards everything is merged,
and the bytes on disk are counted; `--demo-log FILE` counts those of the packets of a demo's log, too. Last, freshness:
from a packet's capture until a query counts it, while packets come at half the speed that was measured. `--bytes-only`
loads once and measures no time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from clickhouse_connect.driver.client import Client

from bench.facts import START_NS, packets, record
from bench.harness import Median, Work, arguments, report, rounds
from bench.stored import POLL_S, TABLES, bytes_by_column, bytes_by_table
from collector import Collector, CollectorConfig, migrate, store_clients
from eventlog.cloudevents import headers
from eventlog.codec import encode
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.port import Committed, EventLog, Record, TopicPartition
from eventlog.schema import PACKET
from eventlog.sqlite import SqliteEventLog
from eventlog.topics import declared
from sidetone.broker import Broker
from sidetone.store.process import StoreProcess

CHUNKS = 16
CHUNK_ROWS = 65_000
SESSIONS = 20
FLUSH_S = 0.25
"""An emitter's default."""
FRESH_S = 12.0
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

    def __init__(self, folder: Path, store: StoreProcess, open_log: Callable[[], EventLog]) -> None:
        self._folder = folder
        self._open_log = open_log
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
        log = self._open_log()
        await log.partitions(PACKET.topic)  # created if missing
        for one in made:
            await log.append([one])
        await log.aclose()

    def collector(self) -> Work:
        """The log through a collector whose group is new, so that it starts at the log's beginning."""
        self._loaded += 1
        config = CollectorConfig(group=f"bench-{self._loaded}", topics=(PACKET.topic,), fetch_bytes=32 << 20)

        async def load() -> None:
            log = self._open_log()
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
        self._truncate()
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

    def freshness(self, facts_per_second: float) -> list[float]:
        """Milliseconds from capture to countable, of packets over `FRESH_S` that come at a rate."""
        self._truncate()
        return asyncio.run(self._freshness(facts_per_second))

    async def _freshness(self, facts_per_second: float) -> list[float]:
        rng = np.random.default_rng(11)
        rows = int(facts_per_second * FLUSH_S)
        each = [
            packets(rng, sessions=SESSIONS, rows=min(rows, CHUNK_ROWS), region="eu-west")
            for _ in range(-(-rows // CHUNK_ROWS))
        ]
        data = [encode(PACKET, batch) for batch in each]  # by another process, in life
        log, collectors_log, stop = self._open_log(), self._open_log(), asyncio.Event()
        config = CollectorConfig(group="bench-fresh", topics=(PACKET.topic,))
        async with log.subscribe(config.group, config.topics) as member:
            await member.commit({where: Committed((await log.bounds(where))[1]) for where in member.assignment})
        collecting = asyncio.create_task(Collector(collectors_log, self._clients, config).run(stop))
        sent: list[tuple[float, int]] = []  # when, and rows until then
        waited: list[float] = []
        counting = asyncio.create_task(self._count(sent, waited))
        begin, sequence, total = time.monotonic(), 0, 0
        while (now := time.monotonic()) < begin + FRESH_S:
            for batch, value in zip(each, data, strict=True):
                named = headers(PACKET, "fresh", sequence, batch.num_rows, value, time.time_ns())
                await log.append([Record(TopicPartition(PACKET.topic, 0), value, named)])
                sequence, total = sequence + 1, total + batch.num_rows
                sent.append((now, total))
            await asyncio.sleep(max(0.0, now + FLUSH_S - time.monotonic()))
        while len(waited) < len(sent):  # noqa: ASYNC110 - the store does not call back
            await asyncio.sleep(POLL_S)
        counting.cancel()
        stop.set()
        await asyncio.gather(collecting, counting, return_exceptions=True)
        for opened in (log, collectors_log):
            await opened.aclose()
        # A packet waits in its emitter, too: evenly up to the time between two flushes.
        return [1000 * (wait + FLUSH_S * share) for wait in waited for share in (0.1, 0.3, 0.5, 0.7, 0.9)]

    async def _count(self, sent: list[tuple[float, int]], waited: list[float]) -> None:
        client = self._clients()
        while True:
            counted = int(str(await asyncio.to_thread(client.command, "SELECT count() FROM sidetone.packets")))
            now = time.monotonic()
            while len(waited) < len(sent) and sent[len(waited)][1] <= counted:
                waited.append(now - sent[len(waited)][0])
            await asyncio.sleep(POLL_S)

    def load_demo(self, path: Path) -> None:
        """Have a demo's packets in the store instead."""
        self._truncate()

        async def load() -> None:
            log = SqliteEventLog(path)
            group = f"bench-{time.time_ns()}"
            await Collector(log, self._clients, CollectorConfig(group=group, topics=(PACKET.topic,))).drain()
            await log.aclose()

        asyncio.run(load())
        self.rows = int(str(self._client.command("SELECT count() FROM sidetone.packets")))

    def stored(self, name: str) -> dict[str, object]:
        """Return the bytes per packet of what is in the store; `name` says what that is."""
        on_disk = bytes_by_table(self._client, self.rows, "bytes_on_disk")
        data = bytes_by_table(self._client, self.rows, "data_compressed_bytes")
        return {
            f"{name}_facts": self.rows,
            f"{name}_bytes_per_fact_on_disk_with_rollups": sum(on_disk.values()),
            f"{name}_bytes_per_fact_on_disk_by_table": on_disk,
            # Without indexes, checksums and statistics, which so few rows as a demo's do not carry.
            f"{name}_bytes_per_fact_compressed_with_rollups": sum(data.values()),
            f"{name}_bytes_per_fact_compressed_by_table": data,
            f"{name}_bytes_per_fact_compressed_by_column_of_packets": bytes_by_column(self._client, self.rows),
        }

    def _truncate(self) -> None:
        for table in TABLES:
            self._client.command(f"TRUNCATE TABLE sidetone.{table}")


@contextmanager
def opener(kind: str, folder: Path) -> Iterator[Callable[[], EventLog]]:
    """Yield what opens the log; a broker runs as long."""
    if kind == "sqlite":
        yield lambda: SqliteEventLog(folder / "log.sqlite")
        return
    with Broker(folder / "kafka") as broker:
        topics = declared(partitions=1, replication=1)
        yield lambda: KafkaEventLog(KafkaConnection(broker.bootstrap), topics)


def speeds(log: str, contest: Contest, found: dict[str, Median], fresh: list[float]) -> dict[str, object]:
    """Return what the rounds and the wait for packets came to."""
    ours, limit = found["collector"], found["limit"]
    return {
        "log": log,
        "facts_per_core_second": ours.per_cpu_s,
        "limit_facts_per_core_second": limit.per_cpu_s,
        "ratio_to_limit": ours.per_cpu_s / limit.per_cpu_s,
        "facts_per_second": ours.per_s,
        "limit_facts_per_second": limit.per_s,
        "collector_cpu_s": ours.detail["own_cpu_s"],
        "store_cpu_s": ours.detail["store_cpu_s"],
        "limit_cpu_s": limit.cpu_s,
        "chunk_bytes_per_fact": contest.chunk_bytes / contest.rows,
        "freshness_facts_per_second": ours.per_s / 2,
        "freshness_ms": {
            "p50": float(np.percentile(fresh, 50)),
            "p99": float(np.percentile(fresh, 99)),
            "max": max(fresh),
        },
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--log", choices=["kafka", "sqlite"], default="kafka", help="the log to load from")
    parser.add_argument("--demo-log", type=Path, default=None, help="log.sqlite of a demo, for bytes per real packet")
    parser.add_argument("--bytes-only", action="store_true", help="load once, and count bytes only")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        StoreProcess(Path(name) / "store") as store,
        opener(options.log, Path(name)) as open_log,
    ):
        contest = Contest(Path(name), store, open_log)
        if options.bytes_only:
            contest.collector()
            result = contest.stored("synthetic")
        else:
            found = rounds({"collector": contest.collector, "limit": contest.limit}, options.rounds)
            stored = contest.stored("synthetic")
            fresh = contest.freshness(found["collector"].per_s / 2)
            result = speeds(options.log, contest, found, fresh) | stored
        if options.demo_log:
            contest.load_demo(options.demo_log)
            result |= contest.stored("demo")
    report(result, options.json)


if __name__ == "__main__":
    main()
