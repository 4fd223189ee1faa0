"""What a store must do: run against the embedded store, or a ClickHouse server named by SIDETONE_CLICKHOUSE=host:port.

Only an unmodified clickhouse_connect client is used, given a host and a port.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.contract.store_tools import again

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
