"""What a store must do: run against the embedded store, or a ClickHouse server named by SIDETONE_CLICKHOUSE=host:port.

Only an unmodified clickhouse_connect client is used, given a host and a port.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, cast

import clickhouse_connect
import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from sidetone.store.process import StoreProcess

DEDUP = {
    "async_insert": 0,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    outside = os.environ.get("SIDETONE_CLICKHOUSE")
    if outside:
        host, _, port = outside.rpartition(":")
        yield host, int(port)
        return
    with StoreProcess(tmp_path_factory.mktemp("store")) as store:
        yield store.host, store.port


@pytest.fixture(scope="module")
def admin(address: tuple[str, int]) -> Iterator[Client]:
    made = clickhouse_connect.get_client(host=address[0], port=address[1])
    yield made
    made.close()


@pytest.fixture
def client(address: tuple[str, int], admin: Client) -> Iterator[Client]:
    database = f"contract_{uuid.uuid4().hex}"
    admin.command(f"CREATE DATABASE {database}")
    made = clickhouse_connect.get_client(host=address[0], port=address[1], database=database)
    yield made
    made.close()
    admin.command(f"DROP DATABASE {database}")


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


# --- connecting


def test_a_client_learns_version_time_zone_and_settings(client: Client) -> None:
    assert client.server_version
    assert client.min_version("24.1")
    assert client.ping()
    assert "max_threads" in client.server_settings
    assert client.command("SELECT currentDatabase()") == client.database


def test_health_paths_answer(client: Client, address: tuple[str, int]) -> None:
    pool = client.http  # type: ignore[attr-defined]
    base = f"http://{address[0]}:{address[1]}"
    for path in ("/", "/ping", "/replicas_status"):
        response = pool.request("GET", base + path)
        assert (response.status, response.data) == (200, b"Ok.\n")
    assert pool.request("GET", base + "/nowhere").status == 404


def test_wrong_credentials_are_refused_with_516(address: tuple[str, int]) -> None:
    for user, password in (("nobody", ""), ("default", "guess")):
        with pytest.raises(DatabaseError) as caught:
            clickhouse_connect.get_client(host=address[0], port=address[1], username=user, password=password)
        assert caught.value.code == 516


def test_an_unknown_database_is_81(address: tuple[str, int]) -> None:
    with pytest.raises(DatabaseError) as caught:
        clickhouse_connect.get_client(host=address[0], port=address[1], database="no_such_database")
    assert caught.value.code == 81


# --- types


NOW = dt.datetime(2026, 3, 1, 12, 34, 56, 789012, tzinfo=dt.UTC)
TYPES: list[tuple[str, list[Any]]] = [
    ("UUID", [uuid.UUID(int=0), uuid.UUID("0199aa00-1111-7222-8333-444455556666")]),
    ("DateTime64(9, 'UTC')", [1_772_368_496_789_012_345, 0]),
    ("DateTime64(6, 'UTC')", [NOW, NOW + dt.timedelta(microseconds=1)]),
    ("DateTime('UTC')", [NOW.replace(microsecond=0), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]),
    ("Date", [dt.date(2026, 3, 1), dt.date(1970, 1, 1)]),
    ("String", ["", "quote ' and \\ and \t and \n", "Ünïcode 🦉", "\x00\x01"]),
    ("FixedString(4)", [b"abcd", b"\x00\x01\x02\x03"]),
    ("LowCardinality(String)", ["eu-west", "us-east", "eu-west"]),
    ("LowCardinality(Nullable(String))", ["eu-west", None, ""]),
    ("Map(String, String)", [{}, {"k": "v", "ü": "'"}]),
    ("Map(LowCardinality(String), Float64)", [{"p50": 1.5}, {}]),
    ("Array(String)", [[], ["a", "b'c"]]),
    ("Array(Nullable(Int32))", [[1, None], []]),
    ("Bool", [True, False]),
    ("Float64", [0.1, -1e300]),
    ("Nullable(Float32)", [None, 0.5]),
    ("Tuple(Int32, String)", [(1, "a"), (-1, "")]),
    ("Enum8('a' = 1, 'b' = 2)", ["a", "b"]),
    ("IPv6", ["::1", "2001:db8::1"]),
    *[(f"Int{bits}", [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]) for bits in (8, 16, 32, 64)],
    *[(f"UInt{bits}", [0, 2**bits - 1]) for bits in (8, 16, 32, 64)],
    *[(f"Nullable(Int{bits})", [None, -(2 ** (bits - 1))]) for bits in (8, 16, 32, 64)],
]


@pytest.mark.parametrize(("of", "values"), TYPES, ids=[of for of, _ in TYPES])
def test_values_come_back_as_they_went(client: Client, of: str, values: list[Any]) -> None:
    client.command(f"CREATE TABLE t (n UInt32, v {of}) ENGINE = MergeTree ORDER BY n")
    client.insert("t", list(enumerate(values)), column_names=["n", "v"])
    result = client.query(
        "SELECT v FROM t ORDER BY n",
        query_formats={"DateTime64*": "int"} if values[0] == 1_772_368_496_789_012_345 else None,
        query_tz="UTC",
        tz_mode="aware" if of.startswith("DateTime") and isinstance(values[0], dt.datetime) else None,
    )
    assert [str(v) if of == "IPv6" else v for v in result.result_columns[0]] == values
    assert client.query("SELECT toTypeName(v) FROM t LIMIT 1").first_row == (of,)


def test_aggregate_states_merge_over_inserts(client: Client) -> None:
    client.command("CREATE TABLE raw (at DateTime('UTC'), v UInt32) ENGINE = MergeTree ORDER BY at")
    client.command(
        "CREATE TABLE rolled (at DateTime('UTC'), n SimpleAggregateFunction(sum, UInt64), "
        "dd AggregateFunction(quantilesDD(0.01, 0.5, 0.9), UInt32)) ENGINE = AggregatingMergeTree ORDER BY at"
    )
    client.command(
        "CREATE MATERIALIZED VIEW mv TO rolled AS SELECT toStartOfMinute(at) AS at, count() AS n, "
        "quantilesDDState(0.01, 0.5, 0.9)(v) AS dd FROM raw GROUP BY at"
    )
    for start in (1, 501):
        client.insert("raw", [[NOW, v] for v in range(start, start + 500)], column_names=["at", "v"])
    (n, quantiles), *rest = client.query(
        "SELECT sum(n), quantilesDDMerge(0.01, 0.5, 0.9)(dd) FROM rolled GROUP BY at"
    ).result_rows
    assert (n, rest) == (1000, [])
    assert quantiles == pytest.approx([500, 900], rel=0.02)


# --- parameters


PARAMETERS: list[tuple[str, Any]] = [
    ("String", "it's \\ a \"test\"\twith\nall {of:it}; -- and 'more'"),
    ("String", "Ünïcode 🦉"),
    ("String", ""),
    ("Int64", -(2**63)),
    ("UInt8", 255),
    ("Float64", 0.25),
    ("Bool", True),
    ("UUID", uuid.UUID("0199aa00-1111-7222-8333-444455556666")),
    ("Date", dt.date(2026, 3, 1)),
    ("Array(String)", ["a'b", "c\\d", "e\tf", "ü"]),
    ("Array(UInt32)", [1, 2, 3]),
    ("Array(Array(String))", [["a"], []]),
    ("Nullable(String)", None),
    ("Nullable(Int32)", 5),
    ("Tuple(Int32, String)", (1, "x'y")),
]


@pytest.mark.parametrize("form", [False, True], ids=["url", "form"])
@pytest.mark.parametrize(("of", "value"), PARAMETERS)
def test_a_parameter_is_bound_by_the_server(
    client: Client, address: tuple[str, int], of: str, value: Any, *, form: bool
) -> None:
    other = again(client, address, form_encode_query_params=form)
    got = other.query(f"SELECT {{v:{of}}} AS v", parameters={"v": value}).result_rows[0][0]
    assert got == value
    other.close()


def test_a_map_is_bound_by_the_server(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client writes a dict as JSON unless its own option says otherwise.
    monkeypatch.setattr(common._common_settings["dict_parameter_format"], "value", "map")
    value = {"a'b": "c\\d", "ü": ""}
    assert client.query("SELECT {v:Map(String, String)}", parameters={"v": value}).first_row == (value,)


def test_date_times_bind_to_the_microsecond(client: Client) -> None:
    got = client.query("SELECT toUnixTimestamp64Micro({at:DateTime64(6, 'UTC')})", parameters={"at": NOW}).result_rows[
        0
    ][0]
    assert got == int(NOW.timestamp() * 1e6 + 0.5)


def test_a_table_name_can_be_a_parameter(client: Client) -> None:
    client.command("CREATE TABLE `odd name` (a Int32) ENGINE = MergeTree ORDER BY a")
    client.insert("`odd name`", [[1]], column_names=["a"])
    assert client.query("SELECT a FROM {t:Identifier}", parameters={"t": "odd name"}).result_rows == [(1,)]


def test_a_missing_parameter_is_456(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT {v:String}")
    assert (caught.value.code, caught.value.name) == (456, "UNKNOWN_QUERY_PARAMETER")


def test_external_data_is_a_table_of_the_query(client: Client) -> None:
    data = ExternalData(file_name="movies.csv", data=b"1,Up\n2,Jaws\n", fmt="CSV", structure="n UInt8, title String")
    got = client.query("SELECT title FROM movies WHERE n > {n:UInt8}", parameters={"n": 1}, external_data=data)
    assert got.result_rows == [("Jaws",)]
    typed = ExternalData(file_name="t.tsv", data=b"a\t1\n", fmt="TabSeparated", types=["String", "UInt8"])
    assert client.query("SELECT _1, _2 FROM t", external_data=typed).result_rows == [("a", 1)]


# --- settings and sessions


def test_a_setting_holds_for_its_query_only(client: Client) -> None:
    assert client.command("SELECT getSetting('max_block_size')", settings={"max_block_size": 77}) == 77
    assert client.command("SELECT getSetting('max_block_size')") != 77


def test_a_clients_settings_hold_for_all_its_queries(client: Client, address: tuple[str, int]) -> None:
    other = again(client, address, settings={"max_block_size": 78})
    assert other.command("SELECT getSetting('max_block_size')") == 78
    other.close()


def test_an_unknown_setting_is_115_and_404(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command("SELECT 1", settings={"no_such_setting": 1})
    assert caught.value.code == 115


def test_readonly_refuses_writes(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command("CREATE TABLE t (a Int32) ENGINE = Memory", settings={"readonly": 1})
    assert (caught.value.code, caught.value.name) == (164, "READONLY")


def test_get_must_not_write(client: Client, address: tuple[str, int]) -> None:
    pool = client.http  # type: ignore[attr-defined]
    base = f"http://{address[0]}:{address[1]}/"
    read = pool.request("GET", base, fields={"query": "SELECT 1", "max_threads": "1"})
    assert (read.status, read.data) == (200, b"1\n")
    write = pool.request("GET", base, fields={"query": f"CREATE TABLE {client.database}.t (a Int8) ENGINE = Memory"})
    assert write.status == 500
    assert write.headers["X-ClickHouse-Exception-Code"] == "164"


def test_a_session_keeps_settings_database_and_temporary_tables(client: Client, address: tuple[str, int]) -> None:
    mine = again(client, address, session_id=str(uuid.uuid4()))
    other = again(client, address, session_id=str(uuid.uuid4()))
    mine.command("SET max_block_size = 79")
    mine.command("CREATE TEMPORARY TABLE kept (a Int32)")
    mine.insert("kept", [[1], [2]], column_names=["a"], column_type_names=["Int32"])
    assert mine.query("SELECT sum(a) FROM kept").first_row == (3,)
    assert mine.command("SELECT getSetting('max_block_size')") == 79
    assert mine.command("SELECT getSetting('max_block_size')", settings={"max_block_size": 80}) == 80
    assert mine.command("SELECT getSetting('max_block_size')") == 79
    mine.command("USE system", use_database=False)
    assert mine.command("SELECT currentDatabase()", use_database=False) == "system"
    assert mine.command("SELECT currentDatabase()") == client.database
    assert mine.command("SELECT currentDatabase()", use_database=False) == "system"
    assert other.command("SELECT getSetting('max_block_size')") != 79
    with pytest.raises(DatabaseError) as caught:
        other.query("SELECT * FROM kept")
    assert caught.value.code == 60
    mine.close()
    other.close()


def test_a_session_serves_one_request_at_a_time(client: Client, address: tuple[str, int]) -> None:
    name = str(uuid.uuid4())
    first, second = again(client, address, session_id=name), again(client, address, session_id=name)
    with first.query_row_block_stream("SELECT number FROM numbers(20000000)") as stream:
        next(stream)
        with pytest.raises(DatabaseError) as caught:
            second.command("SELECT 1")
        assert caught.value.code == 373
    assert second.command("SELECT 1") == 1
    first.close()
    second.close()


def test_session_check_finds_no_session(client: Client, address: tuple[str, int]) -> None:
    other = again(client, address, session_id=str(uuid.uuid4()), settings={"session_check": 1})
    with pytest.raises(DatabaseError) as caught:
        other.command("SELECT 1")
    assert caught.value.code == 372
    other.close()


# --- compression


@pytest.mark.parametrize("method", [False, "lz4", "zstd", "gzip", "deflate", True])
def test_every_compression_reads_the_same(client: Client, address: tuple[str, int], method: bool | str) -> None:
    other = again(client, address, compress=method)
    result = other.query("SELECT number, toString(number) FROM numbers(200000)")
    assert result.result_columns[0][-1] == 199_999
    assert len(result.result_rows) == 200_000
    with pytest.raises(DatabaseError) as caught:
        other.query("SELECT * FROM no_such_table")
    assert caught.value.code == 60
    other.close()


@pytest.mark.parametrize("method", [False, "lz4", "zstd", "gzip"])
def test_every_compression_writes_the_same(client: Client, address: tuple[str, int], method: bool | str) -> None:
    other = again(client, address, compress=method)
    other.command("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    rows = [[n, f"row {n}"] for n in range(300_000)]
    other.insert("t", rows, column_names=["a", "b"])
    assert other.query("SELECT count(), sum(a), max(b) FROM t").first_row == (300_000, sum(range(300_000)), "row 99999")
    other.close()


@pytest.mark.parametrize("method", ["lz4", "zstd", "gzip", "deflate", "br"])
def test_a_raw_insert_may_be_compressed(client: Client, method: str) -> None:
    import zlib  # noqa: PLC0415

    import cramjam  # noqa: PLC0415 - only here
    import lz4.frame  # type: ignore[import-untyped] # noqa: PLC0415

    csv = b"".join(b"%d,x\n" % n for n in range(50_000))
    packed = {
        "lz4": lambda: b"".join(map(lz4.frame.compress, (csv[:1000], csv[1000:]))),
        "zstd": lambda: bytes(cramjam.zstd.compress(csv[:1000])) + bytes(cramjam.zstd.compress(csv[1000:])),
        "gzip": lambda: bytes(cramjam.gzip.compress(csv)),
        "deflate": lambda: zlib.compress(csv),
        "br": lambda: bytes(cramjam.brotli.compress(csv)),
    }[method]()
    client.command("CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("t", ["a", "b"], packed, fmt="CSV", compression=method)
    assert client.query("SELECT count(), sum(a) FROM t").first_row == (50_000, sum(range(50_000)))


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


# --- errors


@pytest.mark.parametrize(
    ("sql", "code", "name", "status"),
    [
        ("SELECT * FROM no_such_table", 60, "UNKNOWN_TABLE", 404),
        ("SELEC 1", 62, "SYNTAX_ERROR", 400),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR", 400),
        ("SELECT no_such_column FROM system.one", 47, "UNKNOWN_IDENTIFIER", 404),
        ("SELECT no_such_function(1)", 46, "UNKNOWN_FUNCTION", 404),
        ("SELECT toUInt8('x')", 6, "CANNOT_PARSE_TEXT", 400),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", 500),
        ("SELECT 1 FORMAT NoSuchFormat", 73, "UNKNOWN_FORMAT", 404),
    ],
)
def test_errors_have_clickhouses_code_name_and_status(
    client: Client, address: tuple[str, int], sql: str, code: int, name: str, status: int
) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command(sql)
    assert (caught.value.code, caught.value.name) == (code, name)
    pool = client.http  # type: ignore[attr-defined]
    response = pool.request("POST", f"http://{address[0]}:{address[1]}/", body=sql)
    assert response.status == status
    assert response.headers["X-ClickHouse-Exception-Code"] == str(code)
    text = response.data.decode()
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert f"({name}) (version " in text


def test_an_error_after_rows_were_sent_is_raised(client: Client) -> None:
    seen: list[int] = []

    def read() -> None:
        sql = "SELECT throwIf(number = 3000000), number FROM numbers(4000000)"
        with client.query_row_block_stream(sql) as stream:
            seen.extend(map(len, stream))

    with pytest.raises(StreamFailureError) as caught:
        read()
    assert caught.value.code == 395
    assert seen


def test_a_query_stops_at_max_execution_time(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT count() FROM system.numbers", settings={"max_execution_time": 0.3})
    assert (caught.value.code, caught.value.name) == (159, "TIMEOUT_EXCEEDED")


def test_kill_query_finds_a_query_by_its_clients_id(client: Client, address: tuple[str, int]) -> None:
    query_id = str(uuid.uuid4())
    other = again(client, address)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(other.query, "SELECT count() FROM system.numbers", settings={"query_id": query_id})
        killed = False
        while not killed and not running.done():
            killed = bool(
                client.query("KILL QUERY WHERE query_id = {q:String} SYNC", parameters={"q": query_id}).result_rows
            )
        with pytest.raises(DatabaseError) as caught:
            running.result()
    assert caught.value.code == 394
    other.close()


def test_the_query_id_comes_back(client: Client) -> None:
    assert client.query("SELECT 1", settings={"query_id": "my-own-id"}).query_id == "my-own-id"


# --- at once


def test_ping_answers_during_a_long_query(client: Client, address: tuple[str, int]) -> None:
    other = again(client, address)
    query_id = str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(other.query, "SELECT count() FROM system.numbers", settings={"query_id": query_id})
        assert all(client.ping(timeout=2) for _ in range(20))
        assert client.command("SELECT 1") == 1
        assert not running.done()
        while not running.done():
            client.command(f"KILL QUERY WHERE query_id = '{query_id}'")
        assert isinstance(running.exception(), DatabaseError)
    other.close()


def test_eight_clients_insert_and_read_at_once(client: Client, address: tuple[str, int]) -> None:
    make_chain(client)
    each, rows = 5, 5_000
    together = threading.Barrier(8)

    def work(number: int) -> int:
        mine = again(client, address)
        together.wait(30)
        read = 0
        for turn in range(each):
            body = arrow_bytes(packets(rows, seed=100 * number + turn))
            mine.raw_insert("packets", insert_block=body, fmt="ArrowStream", settings=DEDUP)
            read += mine.query("SELECT count() FROM packets").result_rows[0][0] > 0
        mine.close()
        return read

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [each] * 8
    assert counts(client) == (8 * each * rows,) * 3


def test_a_client_that_leaves_takes_its_query_with_it(client: Client, address: tuple[str, int]) -> None:
    marker = f"left_{uuid.uuid4().hex}"
    other = again(client, address)
    stream = raw_stream(other, f"SELECT number AS {marker} FROM system.numbers")
    running = f"SELECT count() FROM system.processes WHERE query LIKE '%AS {marker}%' AND query NOT LIKE '%processes%'"
    assert stream.read(1) == b"0"
    assert client.command(running) == 1
    stream.close()
    other.close()
    while client.command(running):
        pass
