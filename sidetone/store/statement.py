"""What one HTTP request asks of the engine, and how it is put to it.

Rows go in and out through file descriptors that the engine itself reads and writes (`FROM INFILE`, `INTO OUTFILE`), so
that no row is touched in Python and every format comes out as the engine's own writer makes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from sidetone.store.errors import StoreError
from sidetone.store.lexer import Token, tokens, unquoted

# ClickHouse's max_query_size: a statement (not its data) must end within this many bytes.
MAX_STATEMENT_BYTES = 262_144

_WITH_OUTPUT = {"SELECT", "WITH", "FROM", "(", "SHOW", "DESC", "DESCRIBE", "EXPLAIN", "EXISTS", "CHECK", "KILL"}
# After one of these a word `format` is a name, not the clause.
_NAME_FOLLOWS = {"SELECT", "DISTINCT", "AS", "BY", "WHERE", "AND", "OR", "NOT", "IN", "ON", "FROM", "JOIN"}
# Engines that hold a connection of their own: chDB cannot reopen a database that has one.
_BROKER_ENGINES = {"kafka", "rabbitmq", "nats", "filelog", "s3queue", "azurequeue", "postgresql_replica"}
_DATA_GAP = re.compile(rb"[ \t\f]*\r?\n?")


class Kind(Enum):
    """How a statement is run."""

    OUTPUT = auto()
    INSERT_DATA = auto()
    PLAIN = auto()


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed head.

    Attributes:
        kind: how to run it.
        before: SQL up to the place where the file clause goes (the whole statement if `PLAIN`).
        after: SQL from there on, without a FORMAT clause's own name if `INSERT_DATA`.
        format: the format that it names, or None.
        data_at: offset in the request text where rows begin (`INSERT_DATA` only).
        changes_session: it sets something that later statements of an HTTP session see.
        sets_database: it is `USE`.
    """

    kind: Kind
    before: bytes
    after: bytes = b""
    format: str | None = None
    data_at: int = 0
    changes_session: bool = False
    sets_database: bool = False

    def insert_sql(self, path: str, mark: str) -> bytes:
        """The insert, reading its rows from `path`; `mark` is a comment that names the query."""
        return self.before + f" FROM INFILE '{path}' /* {mark} */ FORMAT {self.format}".encode()

    def output_sql(self, path: str, mark: str, default_format: str) -> bytes:
        """The query, writing its result to `path`."""
        clause = f"\nINTO OUTFILE '{path}' APPEND /* {mark} */ "
        tail = self.after if self.format else f"FORMAT {default_format} ".encode() + self.after
        return self.before + clause.encode() + tail

    def plain_sql(self, mark: str) -> bytes:
        """Anything else."""
        return self.before + f"\n/* {mark} */".encode()


def parse(sql: bytes) -> Statement:
    """Parse the head of a request: its first `MAX_STATEMENT_BYTES`, rows included if they follow.

    Raises:
        StoreError: several statements, a client-side file clause, or an engine that chDB cannot keep.
    """
    stream = tokens(sql)
    head = next(stream, None)
    if head is None or head.word == ";":
        raise StoreError(62, "Empty query.")
    if head.word == "INSERT":
        return _insert(sql, head)
    significant = [head, *stream]
    if head.word == "WITH":
        insert = next((t for t in significant if t.depth == 0 and t.word == "INSERT"), None)
        if insert is not None:
            return _insert(sql, insert)
    significant, end = _single(significant, len(sql))
    _refuse(sql, significant)
    if head.word in _WITH_OUTPUT:
        return _output(sql, significant, end)
    words = [t.word for t in significant[:4]]
    temporary = words[0] in {"CREATE", "DROP", "ATTACH", "TRUNCATE", "ALTER"} and {"TEMPORARY", "TEMP"} & set(words)
    return Statement(
        Kind.PLAIN,
        sql,
        changes_session=words[0] in {"SET", "USE"} or bool(temporary),
        sets_database=words[0] == "USE",
    )


def _single(significant: list[Token], end: int) -> tuple[list[Token], int]:
    """Cut at the terminating semicolon; nothing may follow it."""
    for index, token in enumerate(significant):
        if token.depth == 0 and token.word == ";":
            if any(t.word != ";" for t in significant[index:]):
                raise StoreError(62, "Syntax error (Multi-statements are not allowed): one statement per request.")
            return significant[:index], token.start
    return significant, end


def _refuse(sql: bytes, significant: list[Token]) -> None:
    """Refuse what would break the store or touch files on the client's behalf."""
    words = [t.word for t in significant]
    if words[0] == "SYSTEM" and len(words) > 1 and words[1] in {"SHUTDOWN", "KILL"}:
        raise StoreError(48, "SYSTEM SHUTDOWN and SYSTEM KILL are not supported: stop the store with SIGTERM instead.")
    for index, token in enumerate(significant):
        if token.depth:
            continue
        following = significant[index + 1 : index + 3]
        if token.word == "INTO" and following and following[0].word == "OUTFILE":
            raise StoreError(48, "INTO OUTFILE is not allowed: the result is the HTTP response.")
        if token.word == "ENGINE" and words[0] in {"CREATE", "ATTACH", "REPLACE"} and following:
            named = following[-1] if following[0].word == "=" else following[0]
            if unquoted(sql, named).lower() in _BROKER_ENGINES:
                raise StoreError(
                    48,
                    f"ENGINE = {unquoted(sql, named)} is not supported: chDB cannot reopen a database that holds "
                    "such a table. Let the collector read the log and insert.",
                )


def _output(sql: bytes, significant: list[Token], end: int) -> Statement:
    before_end, name = end, None
    for index, token in enumerate(significant):
        if token.depth or token.word != "FORMAT" or index == 0 or index + 1 >= len(significant):
            continue
        previous, named, rest = significant[index - 1], significant[index + 1], significant[index + 2 : index + 3]
        operator = previous.kind == "other" and previous.word not in {")", "]", "}", "*"}
        if operator or previous.word in _NAME_FOLLOWS or named.kind not in {"word", "quoted"}:
            continue
        if not rest or rest[0].word in {"SETTINGS", "INTO"}:
            before_end, name = token.start, unquoted(sql, named)
    before, after = sql[:before_end], sql[before_end:end]
    if significant[0].word == "KILL":
        before = _kill_by_mark(before)
    return Statement(Kind.OUTPUT, before, after, name)


def _kill_by_mark(sql: bytes) -> bytes:
    """Let `KILL QUERY WHERE query_id = …` find queries by the id that their client gave.

    chDB gives every query an id of its own; the client's is in the comment that the store adds to each statement.
    """
    mark = rb"extract(query, '/\\* query_id: ([^ ]+) run: [0-9]+ \\*/')"
    out, last = bytearray(), 0
    for token in tokens(sql):
        if token.word == "QUERY_ID":
            out += sql[last : token.start] + mark
            last = token.end
    return bytes(out) + sql[last:]


def _insert(sql: bytes, insert: Token) -> Statement:
    """Find where the rows of an INSERT begin, or that it brings none (INSERT … SELECT)."""
    stream = (t for t in tokens(sql) if t.start > insert.start)
    name_next, previous, selects = False, "", False
    for token in stream:
        word = token.word if token.depth == 0 else ""
        if previous in {"INTO", "."} or name_next:
            # The table's name may be any word; `TABLE` and `FUNCTION` before it are optional.
            name_next = word in {"TABLE", "FUNCTION"}
        elif word in {"SELECT", "WITH", "EXPLAIN"}:
            selects = True
        elif word == "INFILE" and previous == "FROM":
            raise StoreError(48, "FROM INFILE is not allowed: send the rows in the request's body.")
        elif token.word == "INPUT" and selects and (following := next(stream, None)) and following.word == "(":
            raise StoreError(48, "The input() table function is not supported: insert into the table directly.")
        elif word == "VALUES" and not selects:
            return Statement(Kind.INSERT_DATA, sql[: token.start], format="Values", data_at=token.end)
        elif word == "FORMAT" and not selects and (named := next(stream, None)) is not None:
            gap = _DATA_GAP.match(sql, named.end)
            data_at = gap.end() if gap else named.end
            return Statement(Kind.INSERT_DATA, sql[: token.start], format=unquoted(sql, named), data_at=data_at)
        previous = word
    _single(list(tokens(sql)), len(sql))
    return Statement(Kind.PLAIN, sql)
