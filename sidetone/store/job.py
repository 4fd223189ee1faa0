"""One statement run against the engine, in a worker thread, from request to counts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from sidetone.store.encoding import DECODE_ERRORS, Reader, decoder
from sidetone.store.engine import Answer, Connection, Counts, Engine, identifier
from sidetone.store.errors import StoreError
from sidetone.store.multipart import parse_multipart
from sidetone.store.request import Request, check_settings, claim_external
from sidetone.store.sessions import Overlay, Session
from sidetone.store.spool import Spool
from sidetone.store.statement import MAX_STATEMENT_BYTES, Kind, Statement, parse

MAX_BODY_BYTES = 1 << 30
_MAX_FORM_BYTES = 256 << 20
_CHUNK = 1 << 20
_numbers = itertools.count(1)


class Job:
    """Runs `request` with its `body`; the result's bytes go to the pipe `out`, which `run` closes.

    Attributes:
        format: the result's format; None if the statement gives none. Set before the first byte is in the pipe.
        writes: whether stopping it half way would leave something half done.
        marker: the comment by which `Engine.kill` finds it.
    """

    def __init__(self, engine: Engine, request: Request, body: Spool, out: int) -> None:
        self._engine, self._request, self._body, self._out = engine, request, body, out
        self.format: str | None = None
        self.writes = True
        self.marker = f"query_id: {request.query_id} run: {next(_numbers)}"

    def run(self, session: Session | None, may_hold: Callable[[], bool]) -> Counts:
        """Run to the end.

        Raises:
            StoreError: the request or the engine failed.
        """
        try:
            with ExitStack() as stack:
                return self._run(session, may_hold, stack)
        finally:
            os.close(self._out)

    def _run(self, session: Session | None, may_hold: Callable[[], bool], stack: ExitStack) -> Counts:
        request = self._request
        text, rest, tables = self._text()
        check_settings(request)
        statement = parse(text)
        if statement.kind is not Kind.INSERT_DATA and len(text) > MAX_STATEMENT_BYTES:
            raise StoreError(62, f"Max query size exceeded: a statement may have {MAX_STATEMENT_BYTES} bytes.")
        self.writes = statement.kind is not Kind.OUTPUT
        if statement.kind is Kind.OUTPUT:
            self.format = statement.format or request.default_format
        connection = self._connection(session, statement, may_hold, stack)
        for name, data in tables.items():
            self._external_table(connection, name, data)
        return self._execute(connection, statement, text, rest).counts

    def _text(self) -> tuple[bytes, Reader, dict[str, bytes]]:
        """The statement's head, the reader of what follows it, and external tables by name."""
        request = self._request
        reader = decoder(request.content_encoding, _SpoolReader(self._body))
        prefix = request.query + b"\n" if request.query else b""
        tables: dict[str, bytes] = {}
        if request.content_type.lower().startswith("multipart/form-data"):
            body = _read_up_to(reader, _MAX_FORM_BYTES + 1)
            if len(body) > _MAX_FORM_BYTES:
                raise StoreError(307, f"A multipart body may have {_MAX_FORM_BYTES >> 20} MiB at most.")
            for part in parse_multipart(request.content_type, body):
                if part.is_file:
                    tables[part.name] = part.data
                elif part.name == "query":
                    prefix += part.data
                elif part.name.startswith("param_"):
                    request.params[part.name.removeprefix("param_")] = _utf8(part.data)
                else:
                    request.settings[part.name] = _utf8(part.data)
            claim_external(request, set(tables))
            return prefix, _SpoolReader(None), tables
        return prefix + _read_up_to(reader, MAX_STATEMENT_BYTES + 1), reader, tables

    def _connection(
        self, session: Session | None, statement: Statement, may_hold: Callable[[], bool], stack: ExitStack
    ) -> Connection:
        request = self._request
        if session is not None and session.connection is None and statement.changes_session:
            if not may_hold():
                raise StoreError(202, "Too many HTTP sessions hold settings or temporary tables: close some first.")
            session.connection = self._engine.connect()
        if session is not None and session.connection is not None:
            if request.read_only and self.writes:
                raise StoreError(164, "Cannot execute query in readonly mode.")
            if "readonly" in request.settings:
                raise StoreError(48, "readonly cannot be set for one request of a session that holds settings.")
            overlay = Overlay(session.connection, request.settings, request.database)
            stack.callback(overlay.remove, keep_database=statement.sets_database)
            return session.connection
        connection = self._engine.connect()
        stack.callback(connection.close)
        if request.database:
            connection.use(request.database)
        settings = dict(request.settings)
        if request.read_only and settings.get("readonly", "0") == "0":
            # As ClickHouse: GET must not write, but may choose settings.
            settings["readonly"] = "2"
        connection.set(settings)
        return connection

    def _external_table(self, connection: Connection, name: str, data: bytes) -> None:
        described = self._request.external.get(name, {})
        structure = described.get("structure") or ", ".join(
            f"_{number} {of}" for number, of in enumerate(described.get("types", "").split(","), 1) if of
        )
        if not structure:
            raise StoreError(36, f"External table {name} needs {name}_structure or {name}_types.")
        table = identifier(name)
        connection.run(f"CREATE TEMPORARY TABLE {table} ({structure})".encode())
        with Spool(self._engine.data_dir) as spool:
            spool.write(data)
            insert = Statement(
                Kind.INSERT_DATA, f"INSERT INTO {table}".encode(), format=described.get("format", "TabSeparated")
            )
            connection.run(insert.insert_sql(_path(spool.descriptor()), self.marker))

    def _execute(self, connection: Connection, statement: Statement, text: bytes, rest: Reader) -> Answer:
        params = self._request.params
        if statement.kind is Kind.OUTPUT:
            sql = statement.output_sql(_path(self._out), self.marker, self._request.default_format)
            return connection.run(sql, params=params)
        if statement.kind is Kind.INSERT_DATA:
            with ExitStack() as stack:
                rows = self._rows(statement, text, rest, stack)
                return connection.run(statement.insert_sql(_path(rows), self.marker), params=params)
        answer = connection.run(statement.plain_sql(self.marker), self._request.default_format, params)
        for start in range(0, len(answer.data), _CHUNK):
            view = memoryview(answer.data)[start : start + _CHUNK]
            while view:
                view = view[os.write(self._out, view) :]
        return answer

    def _rows(self, statement: Statement, text: bytes, rest: Reader, stack: ExitStack) -> int:
        """A descriptor of exactly the rows."""
        request = self._request
        in_url = len(request.query) + 1 if request.query else 0
        plain = request.content_encoding in {"", "identity"} and not request.content_type.startswith("multipart/")
        if plain and in_url and statement.data_at == in_url:
            return self._body.descriptor()
        spool = stack.enter_context(Spool(self._engine.data_dir))
        spool.write(memoryview(text)[statement.data_at :])
        for chunk in _chunks(rest):
            if spool.size + len(chunk) > MAX_BODY_BYTES:
                raise StoreError(307, f"An insert may have {MAX_BODY_BYTES >> 20} MiB at most; split it.")
            spool.write(chunk)
        return spool.descriptor()


class _SpoolReader:
    """A spool from its start, as a reader; None is empty."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool, self._at = spool, 0

    def read(self, size: int, /) -> bytes:
        data = self._spool.read(self._at, size) if self._spool else b""
        self._at += len(data)
        return data


def _chunks(reader: Reader, size: int = _CHUNK) -> Iterator[bytes]:
    """Read on to the end; a broken compressed body is the client's error."""
    while True:
        try:
            chunk = reader.read(size)
        except DECODE_ERRORS as error:
            raise StoreError(354, f"The request's body cannot be decoded: {error}.") from error
        if not chunk:
            return
        yield chunk


def _read_up_to(reader: Reader, size: int) -> bytes:
    out = bytearray()
    while len(out) < size and (chunk := next(_chunks(reader, size - len(out)), b"")):
        out += chunk
    return bytes(out)


def _path(fd: int) -> str:
    return f"/dev/fd/{fd}"


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise StoreError(36, "A form field is not UTF-8.") from error
