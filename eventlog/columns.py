"""Captured values as Arrow columns: what callers hand in is checked and typed here, once per block, not per row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eventlog.backlog import Block, Row
from eventlog.finite import finite_rows
from eventlog.schema import UUID_TYPE, FactType

_pa: Final[Any] = pa  # column types are known at run time only, the stubs want them at check time
_pc: Final[Any] = pc
_OWN: Final = 3  # a row's position of its type's own columns
_ERRORS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError)


class Assembly:
    """One batch made of many blocks. A bad row is left out and counted; a bad column costs its whole block."""

    def __init__(self, fact: FactType, host_id: str) -> None:
        self.invalid = 0
        """Rows with a value that the schema does not take."""
        self.problem = ""
        """What was wrong with one of them."""
        self._fact = fact
        self._host_id = host_id
        self._parts: list[pa.RecordBatch] = []

    def add(self, block: Block) -> None:
        """Add a block behind those before it."""
        if block.rows is not None:
            self._add_rows(block.rows)
        else:
            self._add({**(block.columns or {}), "host_id": self._host_id}, block.size)

    def batch(self) -> pa.RecordBatch | None:
        """Return all valid rows in the order in which they were added; None if there are none."""
        if len(self._parts) > 1:
            table = pa.Table.from_batches(self._parts, schema=self._fact.schema).unify_dictionaries().combine_chunks()
            self._parts = table.to_batches()
        return self._parts[0] if self._parts else None

    def _add_rows(self, rows: list[Row]) -> None:
        """Add rows; if they do not fit the schema, halve them until the bad ones stand alone."""
        columns: dict[str, object] = {
            "session_id": [row[0] for row in rows],
            "region": [row[1] for row in rows],
            "observed_ns": [row[2] for row in rows],
            "host_id": self._host_id,
        }
        for name in self._fact.schema.names:
            if name not in columns:
                default = self._fact.defaults.get(name)
                columns[name] = [row[_OWN].get(name, default) for row in rows]
        if len(rows) == 1:
            self._add(columns, 1)
        elif (part := _try(self._fact, columns, len(rows))[0]) is not None:
            self._append(part)
        else:
            half = len(rows) // 2
            self._add_rows(rows[:half])
            self._add_rows(rows[half:])

    def _add(self, columns: Mapping[str, object], rows: int) -> None:
        part, problem = _try(self._fact, columns, rows)
        if part is None:
            self.invalid += rows
            self.problem = problem
        else:
            self._append(part)

    def _append(self, part: pa.RecordBatch) -> None:
        """Add a typed batch without its rows that are NULL where the schema has none, or hold a number that is none."""
        for field in self._fact.schema:
            column = part.column(field.name)
            if not field.nullable and column.null_count:
                part = self._filtered(part, _pc.is_valid(column), f"NULL in {field.name}, which must have values")
            column = part.column(field.name)
            if (finite := finite_rows(column)) is not None:
                part = self._filtered(part, finite, f"a NaN or an infinity in {field.name}; unknown is NULL")
        if part.num_rows:
            self._parts.append(part)

    def _filtered(self, part: pa.RecordBatch, keep: Any, problem: str) -> pa.RecordBatch:
        kept = part.filter(keep)
        self.invalid += part.num_rows - kept.num_rows
        self.problem = problem
        return kept


def copied(fact: FactType, columns: Mapping[str, Any], rows: int) -> dict[str, object]:
    """Check the names and lengths of columns and copy what the caller could still change.

    Raises:
        ValueError: a column that the type does not have, or lacks, or of another length.

    """
    check_names(fact, columns)
    own: dict[str, object] = {}
    for name, values in columns.items():
        if not _is_single(values):
            if len(values) != rows:
                raise ValueError(f"{fact.name}.{name} has {len(values)} values for {rows} rows")
            if isinstance(values, np.ndarray):
                values = values.copy()  # noqa: PLW2901 - the copy takes the place
            elif not isinstance(values, pa.Array | pa.ChunkedArray):
                values = list(values)  # noqa: PLW2901
        own[name] = values
    return own


def check_names(fact: FactType, names: Iterable[str]) -> None:
    """Check that a capture names only columns of the type, and all that must not be NULL and have no default.

    `host_id` is the emitter's.

    Raises:
        ValueError: it does not; the message says which.

    """
    given = set(names)
    if unknown := given - set(fact.schema.names) | (given & {"host_id"}):
        raise ValueError(f"{fact.name} facts take no {sorted(unknown)}; they take {_accepted(fact)}")
    if missing := {f.name for f in fact.schema if not f.nullable} - given - {"host_id"} - fact.defaults.keys():
        raise ValueError(f"{fact.name} facts need {sorted(missing)} too")


def _accepted(fact: FactType) -> list[str]:
    return [name for name in fact.schema.names if name != "host_id"]


def _try(fact: FactType, columns: Mapping[str, object], rows: int) -> tuple[pa.RecordBatch | None, str]:
    arrays = []
    for column in fact.schema:
        try:
            values = columns.get(column.name, fact.defaults.get(column.name))
            arrays.append(_typed(values, column.type, rows))
        except _ERRORS as error:
            return None, f"column {column.name} ({column.type}): {error}"
    return pa.RecordBatch.from_arrays(arrays, schema=fact.schema), ""


def _is_single(values: object) -> bool:
    """Tell whether a value stands for all rows."""
    return values is None or isinstance(values, str | bytes | int | float | np.generic | Mapping)


def _typed(values: Any, wanted: Any, rows: int) -> Any:
    """Return values as an array of a schema's type.

    Raises:
        pyarrow.ArrowException, TypeError, ValueError, OverflowError: the values do not fit the type.

    """
    if values is None:
        array = _pa.nulls(rows, wanted)
    elif pa.types.is_dictionary(wanted):
        if isinstance(values, pa.DictionaryArray) and values.type == wanted:
            array = values
        elif isinstance(values, str):
            array = _pa.DictionaryArray.from_arrays(_pa.array(np.zeros(rows, np.int32)), _pa.array([values]))
        else:
            array = _typed(values, pa.string(), rows).dictionary_encode()
    elif _is_single(values):
        array = _pa.repeat(_pa.scalar(_plain(values, wanted), type=wanted), rows)
    elif isinstance(values, pa.Array | pa.ChunkedArray):
        array = _arrow(values, wanted)
    elif wanted == UUID_TYPE and isinstance(values, np.ndarray) and values.dtype != object:
        array = _uuids(values, rows)
    elif pa.types.is_map(wanted):
        array = _pa.array([_plain(value, wanted) for value in values], type=wanted)
    else:
        array = _pa.array(values, type=wanted)
    return array


def _arrow(values: Any, wanted: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values if values.type == wanted else values.cast(wanted)


def _plain(value: Any, wanted: Any) -> Any:
    return list(value.items()) if pa.types.is_map(wanted) and isinstance(value, Mapping) else value


def _uuids(values: np.ndarray[Any, np.dtype[Any]], rows: int) -> Any:
    """Take identifiers as `S16`, `V16` or uint8[rows, 16]; as text numpy would strip their trailing zeros."""
    octets = np.ascontiguousarray(values).view(np.uint8)
    if octets.size != rows * 16:
        raise ValueError(f"{octets.size} octets for {rows} identifiers of 16")
    return _pa.Array.from_buffers(UUID_TYPE, rows, [None, _pa.py_buffer(octets.reshape(-1))])
