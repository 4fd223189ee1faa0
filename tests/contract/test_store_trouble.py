"""What a store must do when something is wrong, and with several clients at once; see test_store."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tests.contract.store_tools import DEDUP, again, arrow_bytes, counts, make_chain, packets, raw_stream

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
        while not running.done():  # until the query is there, there is nothing to kill
            client.command("KILL QUERY WHERE query_id = {q:String} SYNC", parameters={"q": query_id})
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
