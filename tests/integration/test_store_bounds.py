"""What no client can make the store do: grow without bound, leak, insert halves, or serve a foreign web page."""

from __future__ import annotations

import gc
import http.client
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from sidetone.store.process import StoreProcess


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def client(store: StoreProcess) -> Iterator[Client]:
    made = clickhouse_connect.get_client(host=store.host, port=store.port)
    made.command("CREATE OR REPLACE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    yield made
    made.close()


def resident_mib(store: StoreProcess) -> int:
    pages = int(Path(f"/proc/{store.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def descriptors(store: StoreProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{store.process.pid}/fd").iterdir())


def post(store: StoreProcess, body: bytes, path: str = "/", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(store.host, store.port, timeout=30)
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


@pytest.mark.parametrize("encoding", ["identity", "lz4"])
def test_a_large_result_streams_through_little_memory(store: StoreProcess, client: Client, encoding: str) -> None:
    client.command("SELECT 1")
    before = resident_mib(store)
    connection = http.client.HTTPConnection(store.host, store.port, timeout=60)
    sql = "SELECT number, hex(sipHash128(number)) FROM numbers(5000000) FORMAT TabSeparated"
    connection.request("POST", "/?enable_http_compression=1", sql, {"Accept-Encoding": encoding})
    response = connection.getresponse()
    size = peak = 0
    while chunk := response.read(1 << 20):
        size += len(chunk)
        peak = max(peak, resident_mib(store))
    connection.close()
    assert size > 150_000_000
    assert peak - before < 150


def test_a_reader_that_stops_reading_stops_the_query_not_the_store(store: StoreProcess, client: Client) -> None:
    before = resident_mib(store)
    connection = http.client.HTTPConnection(store.host, store.port, timeout=60)
    connection.request("POST", "/", "SELECT number FROM system.numbers FORMAT Native")
    response = connection.getresponse()
    assert response.read(1)
    assert client.command("SELECT 1") == 1
    rows = [client.command("SELECT max(read_rows) FROM system.processes WHERE query LIKE '%FORMAT Native'")]
    while len(rows) < 2 or rows[-1] != rows[-2]:
        rows.append(client.command("SELECT max(read_rows) FROM system.processes WHERE query LIKE '%FORMAT Native'"))
    assert resident_mib(store) - before < 150
    connection.close()


def test_half_a_body_inserts_nothing(store: StoreProcess, client: Client) -> None:
    for head in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
        with socket.create_connection((store.host, store.port)) as raw:
            raw.sendall(f"POST /?query=INSERT+INTO+t+FORMAT+CSV HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
            rows = b"1,one\n" * 1000
            raw.sendall(rows if "Length" in head else b"%x\r\n%s\r\n" % (len(rows), rows))
        assert client.command("SELECT count() FROM t") == 0


def test_a_body_of_a_hundred_megabytes_is_inserted(store: StoreProcess, client: Client) -> None:
    rows = b"".join(b"%d,%s\n" % (n, b"x" * 1000) for n in range(1000))
    before = resident_mib(store)

    def body() -> Generator[bytes, None, None]:
        for _ in range(100):
            yield rows

    client.raw_insert("t", insert_block=body(), fmt="CSV")
    assert client.query("SELECT count(), uniqExact(n) FROM t").first_row == (100_000, 1000)
    assert resident_mib(store) - before < 700


def test_nothing_leaks(store: StoreProcess, client: Client) -> None:
    def work(times: int) -> None:
        for n in range(times):
            client.insert("t", [[n, "x"]], column_names=["n", "s"])
            client.query("SELECT * FROM t")
            with pytest.raises(ClickHouseError):
                client.query("SELECT throwIf(1)")
            assert post(store, b"SELECT 1", "/?role=x")[0] == 404
            connection = http.client.HTTPConnection(store.host, store.port)
            connection.request("POST", "/", "SELECT number FROM system.numbers FORMAT Native")
            assert connection.getresponse().read(1)
            connection.close()

    work(5)
    gc.collect()
    before = descriptors(store)
    work(10)
    # Merges and caches of the engine come and go; a leak of one per request would show as 50.
    while client.command("SELECT count() FROM system.processes WHERE query LIKE '%FORMAT Native'"):
        pass
    assert descriptors(store) < before + 20


@pytest.mark.parametrize(
    "headers",
    [{"Host": "rebound.example:80"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
def test_a_web_page_of_elsewhere_is_refused(store: StoreProcess, headers: dict[str, str]) -> None:
    status, body = post(store, b"SELECT 1", **headers)
    assert status == 403
    assert b"ACCESS_DENIED" in body


def test_local_pages_and_names_are_served(store: StoreProcess) -> None:
    assert post(store, b"SELECT 1", Host=f"localhost:{store.port}") == (200, b"1\n")
    assert post(store, b"SELECT 1", Origin="http://localhost:8501") == (200, b"1\n")


@pytest.mark.parametrize(
    ("path", "headers", "body", "code"),
    [
        ("/", {"Content-Encoding": "snappy"}, b"SELECT 1", b"Code: 48."),
        ("/", {"Content-Encoding": "zstd"}, b"SELECT 1", b"Code: 354."),
        ("/", {"Content-Type": "multipart/form-data; boundary=x"}, b"SELECT 1", b"Code: 36."),
        ("/?session_timeout=0&session_id=a", {}, b"SELECT 1", b"Code: 374."),
        ("/?param_x=%ff", {}, b"SELECT 1", b"Code: 36."),
        ("/", {}, b"SELECT '" + b"x" * 300_000 + b"'", b"Code: 62."),
        ("/", {}, b"", b"Code: 62."),
        ("/", {"Content-Length": str(2 << 30)}, b"", b"Code: 307."),
    ],
)
def test_bad_requests_get_a_code(
    store: StoreProcess, path: str, headers: dict[str, str], body: bytes, code: bytes
) -> None:
    status, found = post(store, body, path, **headers)
    assert status >= 400
    assert found.startswith(code)
