"""The store against its own engine: what HTTP, the file hand-over and the client add.

Insert: one 20 MB ArrowStream body through an unmodified clickhouse_connect client, against chDB told to insert the same
bytes from a file. Read: ten million rows of 8 bytes as Native over HTTP, against chDB giving the same bytes to its
caller. Small query: the time of one `SELECT 1`, beside the engine's own.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import clickhouse_connect
import numpy as np
import pyarrow as pa

from bench.facts import packets
from bench.harness import Work, arguments, report, rounds
from sidetone.store.engine import Engine
from sidetone.store.process import StoreProcess

BODY_BYTES = 20_000_000
READ_ROWS = 10_000_000
SMALL_QUERIES = 50
TABLE = (
    "CREATE TABLE t ENGINE = MergeTree ORDER BY (region, session_id, stream, observed_ns) "
    "AS SELECT * FROM file('{path}', 'ArrowStream') LIMIT 0 SETTINGS schema_inference_make_columns_nullable = 0"
)
READ = f"SELECT number FROM numbers({READ_ROWS})"


def body() -> tuple[bytes, int]:
    """About `BODY_BYTES` of packet facts as an uncompressed Arrow stream, and its rows."""
    probe = packets(np.random.default_rng(1), sessions=20, rows=10_000, region="eu-west")
    rows = int(10_000 * BODY_BYTES / probe.nbytes)
    batch = packets(np.random.default_rng(2), sessions=20, rows=rows, region="eu-west")
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return out.getvalue(), batch.num_rows


def repeat(times: int, call: Callable[[], object]) -> Work:
    """Work of `times` calls."""
    for _ in range(times):
        call()
    return Work(times)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    data, rows = body()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body.arrows"
        file.write_bytes(data)
        engine = Engine(Path(folder) / "engine")
        direct = engine.connect()
        with StoreProcess(Path(folder) / "store") as store:
            client = clickhouse_connect.get_client(host=store.host, port=store.port)
            for run in (lambda sql: direct.run(sql.encode()), client.command):
                run(TABLE.format(path=file))
            insert = f"INSERT INTO t FROM INFILE '{file}' FORMAT ArrowStream".encode()
            settings = {"deduplicate_insert": "disable"}

            def read_store() -> Work:
                stream = cast("IO[bytes]", client.raw_stream(READ, fmt="Native"))
                while stream.read(1 << 20):
                    pass
                return Work(READ_ROWS)

            def insert_store() -> Work:
                client.raw_insert("t", insert_block=data, fmt="ArrowStream", settings=settings)
                return Work(rows)

            found = rounds(
                {
                    "insert_engine": lambda: Work(rows, {"rows": direct.run(insert).counts.written_rows}),
                    "insert_store": insert_store,
                    "read_engine": lambda: Work(READ_ROWS, {"bytes": len(direct.run(READ.encode(), "Native").data)}),
                    "read_store": read_store,
                    "small_engine": lambda: repeat(SMALL_QUERIES, lambda: direct.value("SELECT 1")),
                    "small_store": lambda: repeat(SMALL_QUERIES, lambda: client.command("SELECT 1")),
                },
                options.rounds,
            )
        direct.close()
        engine.close()
    report(
        {
            "insert_ratio": found["insert_store"].per_s / found["insert_engine"].per_s,
            "read_ratio": found["read_store"].per_s / found["read_engine"].per_s,
            "insert_body_bytes": len(data),
            "insert_rows": rows,
            "insert_store_rows_per_s": found["insert_store"].per_s,
            "insert_engine_rows_per_s": found["insert_engine"].per_s,
            "read_store_rows_per_s": found["read_store"].per_s,
            "small_query_store_ms": 1e3 / found["small_store"].per_s,
            "small_query_engine_ms": 1e3 / found["small_engine"].per_s,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
