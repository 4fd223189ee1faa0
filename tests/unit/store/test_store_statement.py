import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidetone.store.errors import StoreError
from sidetone.store.lexer import tokens
from sidetone.store.statement import Kind, parse


def output(sql: bytes, default: str = "TabSeparated") -> bytes:
    return b" ".join(parse(sql).output_sql("/dev/fd/9", "m", default).split())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SELECT 1", b"SELECT 1 INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT TabSeparated"),
        (b"SELECT 1 FORMAT Native", b"SELECT 1 INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT Native"),
        (b"SELECT 1 format JSON;", b"SELECT 1 INTO OUTFILE '/dev/fd/9' APPEND /* m */ format JSON"),
        (b"SELECT 1 -- c\nFORMAT CSV", b"SELECT 1 -- c INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT CSV"),
        (
            b"SELECT 1 FORMAT CSV SETTINGS a = 1",
            b"SELECT 1 INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT CSV SETTINGS a = 1",
        ),
        (b"SELECT a AS format", b"SELECT a AS format INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT TabSeparated"),
        (b"SELECT format FROM t", b"SELECT format FROM t INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT TabSeparated"),
        (
            b"SELECT (SELECT 1 FORMAT CSV)",
            b"SELECT (SELECT 1 FORMAT CSV) INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT TabSeparated",
        ),
        (b"SELECT 'FORMAT CSV'", b"SELECT 'FORMAT CSV' INTO OUTFILE '/dev/fd/9' APPEND /* m */ FORMAT TabSeparated"),
    ],
)
def test_the_file_clause_goes_before_the_format(sql: bytes, expected: bytes) -> None:
    assert output(sql) == expected


@pytest.mark.parametrize(
    ("sql", "fmt", "rows"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\x01", "Native", b"\x00\x01"),
        (b"INSERT INTO t (a, `b`) FORMAT CSV\r\n1,2", "CSV", b"1,2"),
        (b"insert into t values (1);(2)", "Values", b" (1);(2)"),
        (b"INSERT INTO db.values (format) SETTINGS x = 1 FORMAT JSONEachRow {}", "JSONEachRow", b"{}"),
        (b"INSERT INTO TABLE FUNCTION file('x', 'CSV') FORMAT CSV\n\n1", "CSV", b"\n1"),
        (b"/* c */ INSERT INTO `t;` FORMAT CSV \t\n'", "CSV", b"'"),
        (b"INSERT INTO {t:Identifier} FORMAT TSV\n1", "TSV", b"1"),
    ],
)
def test_rows_begin_after_the_format(sql: bytes, fmt: str, rows: bytes) -> None:
    statement = parse(sql)
    assert (statement.kind, statement.format, sql[statement.data_at :]) == (Kind.INSERT_DATA, fmt, rows)


@pytest.mark.parametrize(
    "sql",
    [
        b"INSERT INTO t SELECT 1",
        b"INSERT INTO t SELECT * FROM values('a Int8', 1)",
        b"WITH 1 AS x INSERT INTO t SELECT x",
    ],
)
def test_an_insert_from_a_query_brings_no_rows(sql: bytes) -> None:
    assert parse(sql).kind is Kind.PLAIN


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 1; SELECT 2",
        b"SET a = 1; SELECT 2",
        b"SELECT 1 INTO OUTFILE '/tmp/x' FORMAT CSV",
        b"INSERT INTO t FROM INFILE '/tmp/x' FORMAT CSV",
        b"INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV\n1",
        b"CREATE TABLE t (a Int8) ENGINE = Kafka",
        b"CREATE TABLE t (a Int8) ENGINE=`Kafka` SETTINGS kafka_broker_list = 'x'",
        b"CREATE TABLE t (a Int8) engine RabbitMQ()",
        b"SYSTEM SHUTDOWN",
    ],
)
def test_what_would_break_the_store_is_refused(sql: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        parse(sql)
    assert caught.value.code in {48, 62}


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        (b"SET a = 1", True),
        (b"USE x", True),
        (b"CREATE TEMPORARY TABLE t (a Int8)", True),
        (b"CREATE OR REPLACE TEMPORARY TABLE t (a Int8)", True),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", False),
        (b"SELECT 1", False),
    ],
)
def test_only_some_statements_change_a_session(sql: bytes, *, changes: bool) -> None:
    assert parse(sql).changes_session is changes


def test_kill_goes_by_the_clients_id() -> None:
    killed = output(b"KILL QUERY WHERE query_id = 'query_id' SYNC")
    assert b"WHERE extract(query, " in killed
    assert b"= 'query_id' SYNC INTO" in killed


@given(st.binary(max_size=200))
def test_tokens_cover_any_bytes_in_order(data: bytes) -> None:
    last = 0
    for token in tokens(data):
        assert last <= token.start < token.end <= len(data)
        last = token.end


@given(st.text(max_size=40), st.binary(max_size=60))
def test_strings_hide_whatever_they_hold(text: str, rows: bytes) -> None:
    literal = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    head = f"INSERT INTO t SETTINGS a = {literal} FORMAT Native\n".encode()
    assert parse(head + rows).data_at == len(head)


@given(st.sampled_from([b"'", b'"', b"`", b"/*", b"$a$"]), st.binary(max_size=5000))
def test_what_is_never_closed_is_left_to_the_engine(opening: bytes, data: bytes) -> None:
    list(tokens(b"SELECT " + opening + data * 10))
