"""The store's statement lexer and parser: only `StoreError`, every token within the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidetone.store.errors import StoreError
from sidetone.store.lexer import tokens
from sidetone.store.statement import Kind, parse

MODULES: Final[tuple[str, ...]] = ("sidetone.store.lexer", "sidetone.store.statement")


def seeds() -> Mapping[str, bytes]:
    """One of each kind of statement."""
    return {
        "select": b"SELECT 'a''b' AS `x`, [1, (2)] FROM t -- end\nFORMAT JSON SETTINGS a = 1;",
        "insert-values": b"INSERT INTO db.t (a, b) VALUES (1, 'x'), (2, 'y')",
        "insert-format": b"INSERT INTO t SETTINGS async_insert = 0 FORMAT ArrowStream\n\xff\xff\xff\xff\x00",
        "with-insert": b"WITH 1 AS x INSERT INTO t SELECT x FROM numbers(3)",
        "create": b"CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a",
        "heredoc": b"SELECT $tag$ ; 'x' $tag$, /* c */ 0x1f",
        "kill": b"KILL QUERY WHERE query_id = 'x' SYNC",
        "two": b"SELECT 1; SELECT 2",
    }


def run(data: bytes) -> None:
    """Cut it into tokens, then parse it."""
    last = 0
    for token in tokens(data):
        assert last <= token.start < token.end <= len(data)
        last = token.end
    try:
        statement = parse(data)
    except StoreError:
        return
    assert 0 <= statement.data_at <= len(data)
    assert statement.kind is not Kind.INSERT_DATA or statement.format
