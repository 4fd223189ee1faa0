"""The store killed and stopped in mid-insert: what was acknowledged stays, and a retry completes the rest."""

from __future__ import annotations

import io
import signal
import threading
import uuid
from pathlib import Path

import clickhouse_connect
import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from sidetone.store.process import StoreProcess

ROWS = 200_000
SETTINGS = {"async_insert": 0, "deduplicate_insert": "enable", "deduplicate_blocks_in_dependent_materialized_views": 1}
WINDOW = "SETTINGS non_replicated_deduplication_window = 10000"
SCHEMA = f"""
CREATE TABLE packets (session_id UUID, observed_ns DateTime64(9, 'UTC'), chunk UInt32) ENGINE = MergeTree
    ORDER BY (session_id, observed_ns) {WINDOW};
CREATE TABLE by_second (chunk UInt32, at DateTime('UTC'), packets SimpleAggregateFunction(sum, UInt64))
    ENGINE = AggregatingMergeTree ORDER BY (chunk, at) {WINDOW};
CREATE MATERIALIZED VIEW to_second TO by_second AS
    SELECT chunk, toStartOfSecond(toDateTime64(observed_ns, 0, 'UTC')) AS at, count() AS packets
    FROM packets GROUP BY chunk, at;
CREATE TABLE by_minute (chunk UInt32, at DateTime('UTC'), packets SimpleAggregateFunction(sum, UInt64))
    ENGINE = AggregatingMergeTree ORDER BY (chunk, at) {WINDOW};
CREATE MATERIALIZED VIEW to_minute TO by_minute AS
    SELECT chunk, toStartOfMinute(at) AS at, sum(packets) AS packets FROM by_second GROUP BY chunk, at
"""


def connect(store: StoreProcess) -> Client:
    return clickhouse_connect.get_client(host=store.host, port=store.port)


def body(chunk: int) -> bytes:
    rng = np.random.default_rng(chunk)
    raw = pa.py_buffer(rng.bytes(16 * ROWS))
    session = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), ROWS, [None, raw])
    at = pa.array(1_700_000_000_000_000_000 + np.arange(ROWS) * 1_000_000, pa.timestamp("ns", "UTC"))
    table = pa.table({"session_id": session, "observed_ns": at, "chunk": pa.array(np.full(ROWS, chunk), pa.uint32())})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def insert(client: Client, chunk: int) -> None:
    settings = {**SETTINGS, "insert_deduplication_token": f"chunk-{chunk}"}
    client.raw_insert("packets", insert_block=body(chunk), fmt="ArrowStream", settings=settings)


def per_chunk(client: Client, table: str, count: str) -> dict[int, int]:
    rows = client.query(f"SELECT chunk, {count} FROM {table} GROUP BY chunk").result_rows
    return {row[0]: row[1] for row in rows}


def create(client: Client) -> None:
    for statement in SCHEMA.split(";"):
        client.command(statement)


def insert_until_it_dies(store: StoreProcess, acknowledged: list[int], first: int, enough: threading.Event) -> None:
    client = connect(store)
    try:
        for chunk in range(first, first + 1000):
            insert(client, chunk)
            acknowledged.append(chunk)
            if len(acknowledged) >= 3:
                enough.set()
    except ClickHouseError:
        return


def test_sigkill_in_mid_insert_loses_nothing_acknowledged_and_a_retry_completes_the_rest(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    with StoreProcess(tmp_path) as store:
        create(connect(store))
    for life in range(3):
        with StoreProcess(tmp_path) as store:
            enough = threading.Event()
            before = len(acknowledged)
            lived: list[int] = []
            writer = threading.Thread(target=insert_until_it_dies, args=(store, lived, 1000 * life, enough))
            writer.start()
            watcher = connect(store)
            assert enough.wait(60)
            while not watcher.command("SELECT count() FROM system.processes WHERE query_kind = 'Insert'"):
                assert writer.is_alive()
            store.kill()
            writer.join(60)
            assert not writer.is_alive()
        acknowledged += lived
        in_doubt = lived[-1] + 1
        with StoreProcess(tmp_path) as store:
            client = connect(store)
            kept = per_chunk(client, "packets", "count()")
            assert {chunk: kept.get(chunk) for chunk in acknowledged} == dict.fromkeys(acknowledged, ROWS)
            insert(client, in_doubt)
            insert(client, lived[0])
            acknowledged.append(in_doubt)
            expected = dict.fromkeys(acknowledged, ROWS)
            assert len(acknowledged) > before
            for table, count in (("packets", "count()"), ("by_second", "sum(packets)"), ("by_minute", "sum(packets)")):
                assert per_chunk(client, table, count) == expected, table
            assert store.terminate() == 0


def test_sigterm_lets_a_running_insert_finish(tmp_path: Path) -> None:
    with StoreProcess(tmp_path) as store:
        client = connect(store)
        client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        slow = "INSERT INTO t SELECT number FROM numbers(10) WHERE sleepEachRow(0.1) = 0 SETTINGS max_block_size = 1"
        outcome: list[str] = []

        def work() -> None:
            client.command(slow)
            outcome.append("acknowledged")

        worker = threading.Thread(target=work)
        worker.start()
        watcher = connect(store)
        while not watcher.command("SELECT count() FROM system.processes WHERE query_kind = 'Insert'"):
            assert worker.is_alive()
        assert store.terminate(timeout_s=5) == 0
        worker.join(10)
        assert outcome == ["acknowledged"]
    with StoreProcess(tmp_path) as store:
        assert connect(store).command("SELECT count() FROM t") == 10


def test_a_signal_ends_the_store_within_five_seconds_of_an_endless_query(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with StoreProcess(tmp_path) as store:
            client, watcher = connect(store), connect(store)
            failed = threading.Event()

            def work(client: Client = client, failed: threading.Event = failed) -> None:
                try:
                    client.query("SELECT count() FROM system.numbers", settings={"query_id": str(uuid.uuid4())})
                except ClickHouseError:
                    failed.set()

            worker = threading.Thread(target=work)
            worker.start()
            # The question itself names the table too.
            while watcher.command("SELECT count() FROM system.processes WHERE query LIKE '%system.numbers%'") != 2:
                assert worker.is_alive()
            store.process.send_signal(number)
            assert store.process.wait(5) == 0
            worker.join(10)
            assert failed.is_set()


def test_an_insert_that_would_not_end_in_time_is_stopped_and_its_client_told(tmp_path: Path) -> None:
    with StoreProcess(tmp_path) as store:
        client, watcher = connect(store), connect(store)
        client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
        slow = "INSERT INTO t SELECT number FROM numbers(9000) WHERE sleepEachRow(0.1) = 0 SETTINGS max_block_size = 1"
        told: list[int | None] = []

        def work() -> None:
            try:
                client.command(slow)
            except DatabaseError as error:
                told.append(error.code)

        worker = threading.Thread(target=work)
        worker.start()
        while not watcher.command("SELECT count() FROM system.processes WHERE query_kind = 'Insert'"):
            assert worker.is_alive()
        assert store.terminate(timeout_s=5) == 0
        worker.join(10)
        assert told == [394]
