"""From log bytes to committed rows with rollups, against the engine told to insert the same chunks from files.

Both load the same million packets into the same tables of one embedded store, rollups on, merges off while timed. The
collector's CPU seconds are its own and the store's; the limit's are the store's and those of the client that told it.
The log is a real Kafka broker (`--log sqlite` for the file), whose CPU is not counted. Afterwards everything is merged,
and the bytes on disk are counted; `--demo-log FILE` counts them for the packets of a demo's log, too. Last, freshness:
from a packet's capture until a query counts it, while packets come at half the speed that was measured.
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
from bench.harness import Work, arguments, report, rounds
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
POLL_S = 0.02
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

    def _merge(self, table: str) -> None:
        """Merge all parts of each partition into one; a merge in the background may be in the way for a while."""
        more = (
            "SELECT count() - uniqExact(partition_id) FROM system.parts "
            f"WHERE database = 'sidetone' AND table = '{table}' AND active"
        )
        self._client.command(f"OPTIMIZE TABLE sidetone.{table} FINAL")
        while self._client.command(more):
            time.sleep(POLL_S)
            self._client.command(f"OPTIMIZE TABLE sidetone.{table} FINAL")

    def demo_bytes_per_fact(self, path: Path) -> dict[str, float]:
        """Compressed bytes per packet of a demo's log, once everything is merged.

        Without what a part takes however small it is (indexes, checksums, statistics), which so few rows do not carry.
        """
        self._truncate()

        async def load() -> None:
            log = SqliteEventLog(path)
            group = f"bench-{time.time_ns()}"
            await Collector(log, self._clients, CollectorConfig(group=group, topics=(PACKET.topic,))).drain()
            await log.aclose()

        asyncio.run(load())
        self.rows = int(str(self._client.command("SELECT count() FROM sidetone.packets")))
        return self.bytes_per_fact("data_compressed_bytes")

    def _truncate(self) -> None:
        for table in TABLES:
            self._client.command(f"TRUNCATE TABLE sidetone.{table}")

    def bytes_per_fact(self, measure: str = "bytes_on_disk") -> dict[str, float]:
        """Bytes per packet, once everything is merged."""
        self._client.command("SYSTEM START MERGES")
        sizes = {}
        for table in TABLES:
            self._merge(table)
            size = self._client.command(
                f"SELECT sum({measure}) FROM system.parts WHERE database = 'sidetone' AND table = '{table}' AND active"
            )
            sizes[table] = int(str(size)) / self.rows
        return sizes


@contextmanager
def opener(kind: str, folder: Path) -> Iterator[Callable[[], EventLog]]:
    """Yield what opens the log; a broker runs as long."""
    if kind == "sqlite":
        yield lambda: SqliteEventLog(folder / "log.sqlite")
        return
    with Broker(folder / "kafka") as broker:
        topics = declared(partitions=1, replication=1)
        yield lambda: KafkaEventLog(KafkaConnection(broker.bootstrap), topics)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--log", choices=["kafka", "sqlite"], default="kafka", help="the log to load from")
    parser.add_argument("--demo-log", type=Path, default=None, help="log.sqlite of a demo, for bytes per real packet")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        StoreProcess(Path(name) / "store") as store,
        opener(options.log, Path(name)) as open_log,
    ):
        contest = Contest(Path(name), store, open_log)
        found = rounds({"collector": contest.collector, "limit": contest.limit}, options.rounds)
        facts, sizes = contest.rows, contest.bytes_per_fact()
        fresh = contest.freshness(found["collector"].per_s / 2)
        demo = contest.demo_bytes_per_fact(options.demo_log) if options.demo_log else {}
        demo_facts = contest.rows if demo else 0
    ours, limit = found["collector"], found["limit"]
    report(
        {
            "log": options.log,
            "facts_per_core_second": ours.per_cpu_s,
            "limit_facts_per_core_second": limit.per_cpu_s,
            "ratio_to_limit": ours.per_cpu_s / limit.per_cpu_s,
            "facts_per_second": ours.per_s,
            "limit_facts_per_second": limit.per_s,
            "collector_cpu_s": ours.detail["own_cpu_s"],
            "store_cpu_s": ours.detail["store_cpu_s"],
            "limit_cpu_s": limit.cpu_s,
            "facts": facts,
            "bytes_per_fact": sum(sizes.values()),
            "bytes_per_fact_by_table": sizes,
            "demo_facts": demo_facts,
            "bytes_per_demo_fact": sum(demo.values()) if demo else None,
            "bytes_per_demo_fact_by_table": demo,
            "chunk_bytes_per_fact": contest.chunk_bytes / facts,
            "freshness_facts_per_second": ours.per_s / 2,
            "freshness_ms": {
                "p50": float(np.percentile(fresh, 50)),
                "p99": float(np.percentile(fresh, 99)),
                "max": max(fresh),
            },
        },
        options.json,
    )


if __name__ == "__main__":
    main()
