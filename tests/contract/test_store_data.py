"""What a store must do with what is written and read; see test_store."""

from __future__ import annotations

import io
import subprocess
import sys
import uuid

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.contract.store_tools import DEDUP, arrow_bytes, counts, make_chain, packets, raw_stream

# --- inserting


@pytest.mark.parametrize(
    ("fmt", "block"),
    [
        ("CSV", "1,\"a;b\"\n2,'c'\n"),
        ("JSONEachRow", '{"a":1,"b":"a;b"}\n{"a":2,"b":"\'c\'"}\n'),
        ("TabSeparated", "1\ta;b\n2\t'c'\n"),
        ("Values", "(1, 'a;b'), (2, concat('\\'', 'c', '\\''))"),
    ],
)
def test_text_formats_insert(client: Client, fmt: str, block: str) -> None:
    client.command("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    summary = client.raw_insert("t", ["a", "b"], block, fmt=fmt)
    assert summary.written_rows == 2
    assert client.query("SELECT * FROM t ORDER BY a").result_rows == [(1, "a;b"), (2, "'c'")]


def test_insert_values_is_a_command(client: Client) -> None:
    client.command("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO t (a, b) VALUES (1, 'semi;colon -- not a comment'), (2, 'it''s')")
    client.command("INSERT INTO t SELECT number + 10, 'n' FROM numbers(3)")
    client.command("INSERT INTO t FORMAT CSV", data="3,data\n")
    client.command("INSERT INTO t VALUES", data="(4, 'x')")
    rows = client.query("SELECT * FROM t ORDER BY a").result_rows
    assert rows == [
        *[(1, "semi;colon -- not a comment"), (2, "it's"), (3, "data"), (4, "x")],
        *[(n, "n") for n in (10, 11, 12)],
    ]


def test_arrow_inserts_and_queries(client: Client) -> None:
    make_chain(client)
    table = packets(10_000)
    client.insert_arrow("packets", table)
    back = client.query_arrow("SELECT * FROM packets ORDER BY observed_ns")
    assert back.num_rows == 10_000
    assert back["ext_seq"].to_pylist() == table["ext_seq"].to_pylist()
    assert back["observed_ns"].cast(pa.int64()).to_pylist() == table["observed_ns"].cast(pa.int64()).to_pylist()
    with client.query_arrow_stream("SELECT ext_seq FROM packets ORDER BY ext_seq") as stream:
        assert sum(batch.num_rows for batch in stream) == 10_000


def test_arrow_inserts_from_a_generator_of_bytes(client: Client) -> None:
    make_chain(client)
    body = arrow_bytes(packets(50_000), batches=5)
    client.raw_insert(
        "packets", insert_block=(body[n : n + 10_000] for n in range(0, len(body), 10_000)), fmt="ArrowStream"
    )
    assert counts(client) == (50_000, 50_000, 50_000)


def test_data_frames_insert_and_come_back(client: Client) -> None:
    import pandas as pd  # type: ignore[import-untyped] # noqa: PLC0415

    client.command("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    client.insert_df("t", pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert client.query_df("SELECT * FROM t ORDER BY a")["b"].tolist() == ["x", "y"]


def test_a_summary_counts_rows_written_views_included(client: Client) -> None:
    client.command("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
    assert client.insert("t", [[n] for n in range(1000)], column_names=["a"]).written_rows == 1000
    client.command("CREATE TABLE u (a UInt32) ENGINE = MergeTree ORDER BY a")
    client.command("CREATE MATERIALIZED VIEW v TO u AS SELECT a FROM t")
    assert client.insert("t", [[n] for n in range(1000)], column_names=["a"]).written_rows == 2000


def test_a_full_block_becomes_one_part(client: Client) -> None:
    make_chain(client)
    body = arrow_bytes(packets(1_048_449), batches=17)
    client.raw_insert("packets", insert_block=body, fmt="ArrowStream", settings=DEDUP)
    made = client.query(
        "SELECT count(), max(rows) FROM system.parts "
        "WHERE database = currentDatabase() AND table = 'packets' AND level = 0"
    ).first_row
    assert made == (1, 1_048_449)


def test_the_same_token_counts_once_in_table_and_views(client: Client) -> None:
    make_chain(client)
    body = arrow_bytes(packets(20_000), batches=3)
    for token, expected in (("one", 20_000), ("one", 20_000), ("two", 40_000), ("two", 40_000), ("one", 40_000)):
        settings = {**DEDUP, "insert_deduplication_token": token}
        client.raw_insert("packets", insert_block=body, fmt="ArrowStream", settings=settings)
        assert counts(client) == (expected, expected, expected)


def test_the_same_token_counts_once_for_native_inserts(client: Client) -> None:
    make_chain(client)
    rows = [[uuid.UUID(int=n), 1_700_000_000_000_000_000 + n, n, 1] for n in range(1000)]
    for _ in range(2):
        client.insert(
            "packets",
            rows,
            column_names=["session_id", "observed_ns", "ext_seq", "size_bytes"],
            settings={**DEDUP, "insert_deduplication_token": "native"},
        )
    assert counts(client) == (1000, 1000, 1000)


def test_deduplication_can_be_turned_off(client: Client) -> None:
    make_chain(client)
    body = arrow_bytes(packets(100))
    for _ in range(2):
        settings = {**DEDUP, "deduplicate_insert": "disable", "insert_deduplication_token": "one"}
        client.raw_insert("packets", insert_block=body, fmt="ArrowStream", settings=settings)
    assert counts(client)[0] == 200


def test_an_asynchronous_insert_is_there_when_waited_for(client: Client) -> None:
    client.command("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("t", ["a"], "1\n2\n", fmt="CSV", settings={"async_insert": 1, "wait_for_async_insert": 1})
    assert client.command("SELECT count() FROM t") == 2


def test_a_broken_body_inserts_nothing(client: Client) -> None:
    make_chain(client)
    body = arrow_bytes(packets(50_000), batches=5)
    with pytest.raises(DatabaseError):
        client.raw_insert("packets", insert_block=body[: len(body) // 2], fmt="ArrowStream")
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("packets", ["ext_seq"], "1\nnot a number\n", fmt="CSV")
    assert caught.value.name in {"CANNOT_PARSE_INPUT_ASSERTION_FAILED", "INCORRECT_DATA"}
    assert counts(client) == (0, 0, 0)


# --- reading much


def test_five_million_rows_stream_in_bounded_memory(address: tuple[str, int]) -> None:
    code = (
        "import resource, sys, clickhouse_connect\n"
        "c = clickhouse_connect.get_client(host=sys.argv[1], port=int(sys.argv[2]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = total = 0\n"
        "with c.query_row_block_stream('SELECT number FROM numbers(5000000)') as stream:\n"
        "    for block in stream:\n"
        "        rows += len(block); total += sum(r[0] for r in block)\n"
        "print(rows, total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, address[0], str(address[1])], capture_output=True, text=True, check=True
    )
    rows, total, grown_kib = map(int, done.stdout.split())
    assert (rows, total) == (5_000_000, 5_000_000 * 4_999_999 // 2)
    assert grown_kib < 200_000


def test_a_result_is_streamed_while_it_is_made(client: Client) -> None:
    # An endless query: only a streaming server ever gives its first rows.
    stream = raw_stream(client, "SELECT number FROM system.numbers")
    assert stream.read(10) == b"0\n1\n2\n3\n4\n"
    stream.close()


@pytest.mark.parametrize("fmt", ["JSON", "JSONEachRow", "CSVWithNames", "TabSeparatedWithNames", "Parquet", "Arrow"])
def test_formats_are_one_document_however_many_blocks(client: Client, fmt: str) -> None:
    raw = client.raw_query("SELECT number AS n FROM numbers(200000)", fmt=fmt, settings={"max_block_size": 10_000})
    if fmt in {"Parquet", "Arrow"}:
        import pyarrow.parquet as pq  # noqa: PLC0415 - only here

        table = pq.read_table(io.BytesIO(raw)) if fmt == "Parquet" else pa.ipc.open_file(raw).read_all()
        assert table.num_rows == 200_000
    else:
        header = {"JSON": b'"rows": 200000', "JSONEachRow": b'{"n":0}\n', "CSVWithNames": b'"n"\n'}.get(fmt, b"n\n0\n")
        assert raw.count(header) == 1
        assert raw.count(b"\n") >= 200_000


def test_a_format_in_the_query_wins(client: Client) -> None:
    assert client.raw_query("SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    assert client.raw_query("SELECT 1 AS format FORMAT CSV") == b"1\n"
    assert client.raw_query("SELECT 'FORMAT CSV' AS a, 1 AS b -- FORMAT Null\n FORMAT TSV;\n") == b"FORMAT CSV\t1\n"


def test_other_statements_answer_in_any_format(client: Client) -> None:
    client.command("CREATE TABLE t (a UInt32 COMMENT 'it') ENGINE = MergeTree ORDER BY a")
    assert client.query("SHOW TABLES").result_rows == [("t",)]
    assert client.query("DESCRIBE TABLE t").named_results().__next__()["comment"] == "it"
    assert client.query("EXISTS TABLE t").first_row == (1,)
    assert "MergeTree" in str(client.command("SHOW CREATE TABLE t"))
    assert client.query("EXPLAIN SELECT 1").result_rows
    assert client.query("WITH 1 AS x SELECT x UNION ALL SELECT 2 ORDER BY 1").result_rows == [(1,), (2,)]
    assert client.query("(SELECT 1)").result_rows == [(1,)]


def test_a_query_without_rows_is_empty(client: Client) -> None:
    assert client.query("SELECT number FROM numbers(3) WHERE number > 5").result_rows == []
    empty = client.query("SELECT number AS n FROM numbers(3) LIMIT 0")
    assert (empty.column_names, empty.result_rows) == (("n",), [])
    assert client.command("SELECT number FROM numbers(3) WHERE number > 5") == ""
