"""Chunks as bytes: an Arrow IPC stream with one record batch, its buffers compressed with zstd.

The bytes are inserted into the store as they are, so what `decode` accepts is what the store's `ArrowStream` format
reads: one schema, its dictionaries, one batch, the end mark, and nothing behind it.
"""

from __future__ import annotations

from typing import Final, Literal

import pyarrow as pa

from eventlog.finite import finite_rows
from eventlog.schema import FactType

MAX_CHUNK_BYTES: Final = 16 << 20
"""Largest chunk that is accepted; a full one of 65,536 packets is about half a megabyte."""

MAX_CHUNK_ROWS: Final = 1_048_449
"""Most rows in a chunk: the most that ClickHouse inserts as one block."""

Reason = Literal[
    "bad_checksum",
    "bad_header",
    "bad_row_count",
    "corrupt",
    "not_finite",
    "null_value",
    "too_large",
    "truncated",
    "unknown_type",
    "wrong_schema",
    "wrong_topic",
]

_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# One thread: the pool costs a small chunk more than its compression does, and a busy host has no core to spare.
_WRITE: Final = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
_READ: Final = pa.ipc.IpcReadOptions(use_threads=False)


class ChunkError(Exception):
    """A message that is no valid chunk. `reason` is for machines and dead letters, `detail` for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Keep both parts; the message is `reason: detail`."""
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


def encode(fact: FactType, batch: pa.RecordBatch) -> bytes:
    """Pack one batch of a fact's schema.

    Raises:
        ChunkError: the batch has another schema, NULL or numbers that are none where the schema has none, or is too
            large.

    """
    if not batch.schema.equals(fact.schema):
        raise ChunkError("wrong_schema", f"not a batch of {fact.name} facts: {_difference(fact, batch.schema)}")
    _check(fact, batch)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, fact.schema, options=_WRITE) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    if len(data) > MAX_CHUNK_BYTES:
        raise ChunkError("too_large", f"{len(data)} bytes in one chunk, at most {MAX_CHUNK_BYTES}; use fewer rows")
    return data


def decode(fact: FactType, data: bytes) -> pa.RecordBatch:
    """Unpack a chunk, checked in full against the fact's schema.

    A chunk from before a column was added gets NULL there, or the column's default. A column that this version does not
    know is refused, because dropping it would lose data silently: upgrade the reader.

    Raises:
        ChunkError: whatever is wrong with the bytes; no other exception leaves this function.

    """
    if len(data) > MAX_CHUNK_BYTES:
        raise ChunkError("too_large", f"{len(data)} bytes in one chunk, at most {MAX_CHUNK_BYTES}")
    if not data.endswith(_END_OF_STREAM):
        raise ChunkError("truncated", f"{len(data)} bytes that do not end in Arrow's end-of-stream mark")
    source = pa.BufferReader(data)
    try:
        with pa.ipc.open_stream(source, options=_READ) as reader:
            if unknown := set(reader.schema.names) - set(fact.schema.names):
                raise ChunkError("wrong_schema", f"columns {sorted(unknown)} are not known to this version; upgrade it")
            batches = list(reader)
            left_over = len(data) - source.tell()
        if len(batches) != 1 or left_over:
            detail = f"{len(batches)} batches and {left_over} bytes behind them, instead of one batch and none"
            raise ChunkError("truncated" if not batches else "corrupt", detail)
        batch = _upcast(fact, batches[0])
        batch.validate(full=True)
    except (pa.ArrowException, MemoryError, OSError, ValueError, IndexError) as error:
        raise ChunkError("corrupt", f"not a readable Arrow stream: {error}") from error
    _check(fact, batch)
    return batch


def _upcast(fact: FactType, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch in the current schema's order, with NULL or the default in columns that it predates."""
    names = batch.schema.names
    columns = []
    for field in fact.schema:
        if names.count(field.name) == 1 and batch.schema.field(field.name).type == field.type:
            columns.append(batch.column(field.name))
        elif field.name not in names and field.nullable:
            columns.append(pa.nulls(batch.num_rows, field.type))
        elif field.name not in names and field.name in fact.defaults:
            columns.append(pa.repeat(pa.scalar(fact.defaults[field.name], field.type), batch.num_rows))
        else:
            raise ChunkError("wrong_schema", f"not a batch of {fact.name} facts: {_difference(fact, batch.schema)}")
    return pa.RecordBatch.from_arrays(columns, schema=fact.schema)


def _check(fact: FactType, batch: pa.RecordBatch) -> None:
    if not 0 < batch.num_rows <= MAX_CHUNK_ROWS:
        raise ChunkError("bad_row_count", f"{batch.num_rows} rows in one chunk; it holds 1 to {MAX_CHUNK_ROWS}")
    for field, column in zip(fact.schema, batch.columns, strict=True):
        if not field.nullable and column.null_count:
            raise ChunkError("null_value", f"{column.null_count} NULL in {fact.name}.{field.name}, which has none")
        if finite_rows(column) is not None:
            raise ChunkError("not_finite", f"a NaN or an infinity in {fact.name}.{field.name}; unknown is NULL")


def _difference(fact: FactType, schema: pa.Schema) -> str:
    for field in fact.schema:
        found = schema.get_all_field_indices(field.name)
        if len(found) != 1:
            return f"column {field.name} is there {len(found)} times"
        if not schema.field(found[0]).equals(field):
            return f"column {field.name} should be '{field}', is '{schema.field(found[0])}'"
    return f"columns are {schema.names}, should be {fact.schema.names}"
