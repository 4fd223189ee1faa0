"""chDB, one engine per process: connections to it, and errors from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidetone.store.errors import StoreError, StoreStartError

log = logging.getLogger(__name__)

# Where chDB's defaults differ from those of a ClickHouse server in what a client sees.
_SERVER_DEFAULTS = "implicit_select=0"


@dataclass(frozen=True, slots=True)
class Counts:
    """What X-ClickHouse-Summary reports. Rows, bytes and seconds."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave back directly (not through a file), and its counts."""

    data: bytes
    counts: Counts


def quote(value: str) -> str:
    """A ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """A ClickHouse identifier, quoted."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Connection:
    """One client of the engine, with settings, current database and temporary tables of its own.

    Making one costs 0.2 ms. Use from one thread at a time.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def run(self, sql: bytes, output_format: str = "TabSeparated", params: Mapping[str, str] | None = None) -> Answer:
        """Run one statement to its end; the GIL is released meanwhile.

        Raises:
            StoreError: as the engine reports.
        """
        try:
            result = self._raw.query(sql, output_format, params=dict(params or {}))
        except RuntimeError as error:
            raise StoreError.from_engine(str(error)) from None
        return Answer(
            result.bytes(),
            Counts(
                read_rows=result.storage_rows_read(),
                read_bytes=result.storage_bytes_read(),
                written_rows=result.rows_written(),
                written_bytes=result.bytes_written(),
                result_rows=result.rows_read(),
                elapsed_s=result.elapsed(),
            ),
        )

    def value(self, sql: str) -> str:
        """The only value of a query's only row, as raw text."""
        return self.run(sql.encode(), "TSVRaw").data.decode().removesuffix("\n")

    def set(self, settings: Mapping[str, str]) -> None:
        """`SET` for all that follows on this connection."""
        if settings:
            self.run(("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items())).encode())

    def use(self, database: str) -> None:
        """`USE` for all that follows on this connection."""
        self.run(f"USE {identifier(database)}".encode())

    def close(self) -> None:
        """End this client; its temporary tables go."""
        self._raw.close()


class Engine:
    """The engine over one data directory.

    Raises:
        StoreStartError: the directory's contents cannot be opened.
    """

    def __init__(self, data_dir: Path) -> None:
        if "?" in str(data_dir):
            raise StoreStartError(
                f"The data directory {data_dir} has a ? in its name, which chDB cannot open; rename it."
            )
        # Importing chDB loads 500 MB of library and takes over a second: only who serves pays for it.
        from chdb import _chdb  # noqa: PLC0415

        self.data_dir = data_dir
        self._chdb: Any = _chdb
        # Keeps the engine up between requests; `_chdb.connect` on the same path shares it.
        try:
            self._keeper = self.connect()
            self.version = self._keeper.value("SELECT version()")
            self.timezone = self._keeper.value("SELECT timezone()")
            self.host_name = self._keeper.value("SELECT hostName()")
            # Attaching is lazy: naming every table brings broken metadata to light now.
            self._keeper.value("SELECT count() FROM system.tables")
        except (RuntimeError, StoreError) as error:
            cause = " ".join(str(error).replace("Stack trace", "\n").splitlines()[0].split())
            raise StoreStartError(
                f"The engine cannot open the data directory {data_dir}: {cause[:400]} "
                "The directory holds something else, or is damaged. Restore it from a copy, or start on an empty "
                "directory with --data-dir and let the collector rebuild it from the event log."
            ) from error

    def connect(self) -> Connection:
        """A fresh client."""
        return Connection(self._chdb.connect(f"{self.data_dir}?{_SERVER_DEFAULTS}"))

    def kill(self, condition: str) -> None:
        """Ask the queries for which `condition` (SQL over system.processes) holds to stop."""
        connection = self.connect()
        try:
            connection.run(f"KILL QUERY WHERE {condition} ASYNC".encode())
        except StoreError as error:
            log.warning("KILL QUERY WHERE %s: %s", condition, error.message)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the engine; all clients must be closed."""
        self._keeper.close()
