"""What the store's contract suite inserts and reads with."""

from __future__ import annotations

import io
from typing import IO, Any, cast

import clickhouse_connect
import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

DEDUP = {
    "async_insert": 0,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}


def raw_stream(client: Client, sql: str) -> IO[bytes]:
    return cast("IO[bytes]", client.raw_stream(sql, fmt="TabSeparated"))


def again(client: Client, address: tuple[str, int], **options: Any) -> Client:
    return clickhouse_connect.get_client(host=address[0], port=address[1], database=client.database, **options)


def arrow_bytes(table: pa.Table, batches: int = 1) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in table.to_batches(max_chunksize=max(1, -(-table.num_rows // batches))):
            writer.write_batch(batch)
    return out.getvalue()


def packets(rows: int, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    start = 1_700_000_000_000_000_000
    return pa.table(
        {
            "session_id": pa.array([rng.bytes(16)] * rows, pa.binary(16)),
            "observed_ns": pa.array(start + np.arange(rows) * 20_000_000, pa.timestamp("ns", "UTC")),
            "ext_seq": pa.array(np.arange(rows), pa.int64()),
            "size_bytes": pa.array(rng.integers(40, 200, rows), pa.int32()),
        }
    )


def make_chain(client: Client) -> None:
    """A raw table and two chained rollups, every one with a deduplication window."""
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    client.command(
        "CREATE TABLE packets (session_id UUID, observed_ns DateTime64(9, 'UTC'), ext_seq Int64, size_bytes Int32) "
        f"ENGINE = MergeTree ORDER BY (session_id, observed_ns) {window}"
    )
    for name, source, of, count in (("s", "packets", "observed_ns", "count()"), ("m", "by_s", "at", "sum(packets)")):
        unit = {"s": "toStartOfSecond(toDateTime64(observed_ns, 0, 'UTC'))", "m": "toStartOfMinute(at)"}[name]
        client.command(
            f"CREATE TABLE by_{name} (at DateTime('UTC'), packets SimpleAggregateFunction(sum, UInt64)) "
            f"ENGINE = AggregatingMergeTree ORDER BY at {window}"
        )
        client.command(
            f"CREATE MATERIALIZED VIEW to_{name} TO by_{name} AS "
            f"SELECT {unit} AS at, {count} AS packets FROM {source} GROUP BY at"
        )
        assert of


def counts(client: Client) -> tuple[int, int, int]:
    rows = client.query(
        "SELECT (SELECT count() FROM packets), (SELECT sum(packets) FROM by_s), (SELECT sum(packets) FROM by_m)"
    ).result_rows
    return rows[0][0], rows[0][1], rows[0][2]
