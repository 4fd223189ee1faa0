"""Opening: a range's chunks become blocks, one per UTC day, each an Arrow stream with its token.

The same messages always give the same blocks, to the last byte: a token must never name different rows, because the
store drops the second one silently. Rows are never touched in Python, and a chunk whose facts are of one day is not
even encoded anew: its dictionary and record batch messages go into the block's stream as they stand in the log.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from collector.deadletters import DeadLetter
from collector.ledger import PartitionLedger, Taken
from collector.opening import Refused, iso, open_message
from collector.ranges import Intent, Range
from eventlog.schema import FACTS, FactType

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="zstd")
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SCHEMA_MESSAGES: Final = {fact.name: pa.ipc.read_message(fact.schema.serialize()) for fact in FACTS.values()}

CHUNKS: Final = "chunks"
_CHUNK_FIELDS: Final[list[pa.Field[Any]]] = [
    pa.field("topic", pa.string(), nullable=False),
    pa.field("partition", pa.uint32(), nullable=False),
    pa.field("offset", pa.uint64(), nullable=False),
    pa.field("ce_source", pa.string(), nullable=False),
    pa.field("ce_type", pa.string(), nullable=False),
    pa.field("ce_sequence", pa.uint64(), nullable=False),
    pa.field("rows", pa.uint64(), nullable=False),
    pa.field("epoch", pa.string(), nullable=False),
    pa.field("appended_ns", pa.timestamp("ns", tz="UTC"), nullable=False),
]
_CHUNK_SCHEMA: Final = pa.schema(_CHUNK_FIELDS)


@dataclass(frozen=True, slots=True)
class Block:
    """What one insert carries: an Arrow IPC stream with a record batch per chunk, which the store takes as one block.

    Attributes:
        table: the store's table, without its database.
        columns: names, in the batch's order.
        token: deduplication token.
        rows: number of rows.
        data: the stream.

    """

    table: str
    columns: tuple[str, ...]
    token: str
    rows: int
    data: pa.Buffer


@dataclass(frozen=True, slots=True)
class Opened:
    """A range, ready to be inserted.

    Attributes:
        intent: the range's name.
        messages: number of messages.
        bytes: of their values.
        appended_ns: when each was appended, UTC by the log's clock.
        blocks: facts by day, then the ledger's rows.
        taken: chunks that are in the blocks, in offset order.
        repeated: chunks that were dropped because they are stored already, from an earlier offset.
        dead: messages refused, in offset order.
        rows: facts in the blocks.
        late_rows: of them, observed longer ago than the limit when they were appended.
        poison_head: messages refused before the first good one (all, if none was good).
        poison_tail: messages refused after the last good one (all, if none was good).
        poison_run: longest run of refused messages within the range.

    """

    intent: Intent
    messages: int
    bytes: int
    appended_ns: tuple[int, ...]
    blocks: tuple[Block, ...]
    taken: tuple[Taken, ...]
    repeated: int
    dead: tuple[DeadLetter, ...]
    rows: int
    late_rows: int
    poison_head: int
    poison_tail: int
    poison_run: int

    def without_data(self) -> Opened:
        """Return what is left to report once the blocks are stored."""
        return replace(self, blocks=(), taken=(), dead=())


def open_range(source: Range, ledger: PartitionLedger | None = None, *, late_after_s: float) -> Opened:
    """Verify and decode every message of a range. Blocking and heavy; raises nothing for what a message holds.

    Args:
        source: the range.
        ledger: what was taken from the partition before the range; None if nothing was.
        late_after_s: see `CollectorConfig`.

    """
    dead: list[DeadLetter] = []
    days: defaultdict[tuple[str, int], list[_Piece]] = defaultdict(list)
    taken: dict[tuple[str, str, int], Taken] = {}
    rows = late = repeated = 0
    good: list[bool] = []
    for message in source.messages:
        try:
            fact, header, pieces = open_message(message)
        except Refused as error:
            dead.append(DeadLetter(message, error.reason, error.detail))
            good.append(False)
            continue
        good.append(True)
        name = (header.source, header.type, header.sequence)
        if name in taken or (ledger is not None and header in ledger):
            repeated += 1
            continue
        taken[name] = Taken(*name, message.offset, header.rows, message.appended_ns)
        rows += header.rows
        for day, piece in pieces:
            data = pa.py_buffer(message.value) if len(pieces) == 1 else _stream(piece)
            days[fact.name, day].append(_Piece(piece, data))
            late += _late_rows(piece, message.appended_ns - int(late_after_s * 1e9))
    blocks = [_fact_block(source, FACTS[name], day, days[name, day]) for name, day in sorted(days)]
    if taken:
        blocks.append(_ledger_block(source, list(taken.values())))
    head, tail, longest = _poison_runs(good)
    return Opened(
        intent=source.intent,
        messages=len(source.messages),
        bytes=source.bytes,
        appended_ns=tuple(message.appended_ns for message in source.messages),
        blocks=tuple(blocks),
        taken=tuple(taken.values()),
        repeated=repeated,
        dead=tuple(dead),
        rows=rows,
        late_rows=late,
        poison_head=head,
        poison_tail=tail,
        poison_run=longest,
    )


def _late_rows(batch: pa.RecordBatch, before_ns: int) -> int:
    observed = batch.column("observed_ns").cast(pa.int64())
    late: int = pc.less(observed, pa.scalar(before_ns, pa.int64())).true_count
    return late


@dataclass(frozen=True, slots=True)
class _Piece:
    """Facts of one chunk and one day, and the same as an Arrow stream."""

    batch: pa.RecordBatch
    data: pa.Buffer


def _fact_block(source: Range, fact: FactType, day: int, pieces: list[_Piece]) -> Block:
    token = source.intent.token(iso(day))
    rows = sum(piece.batch.num_rows for piece in pieces)
    return Block(fact.table, tuple(fact.schema.names), token, rows, _joined(fact, pieces))


def _joined(fact: FactType, pieces: list[_Piece]) -> pa.Buffer:
    """Return one stream of all pieces: the schema once, then every piece's own dictionaries and batch.

    A dictionary that comes again replaces the one before (Arrow columnar format, "IPC Streaming Format").
    """
    schema = _SCHEMA_MESSAGES[fact.name]
    sink = pa.BufferOutputStream()
    sink.write(schema.serialize())
    for piece in pieces:
        first, *others = _messages(piece.data)
        if not first.metadata.equals(schema.metadata):
            # Columns in another order or fewer of them, or a writer with other dictionary numbers.
            others = _messages(_stream(piece.batch))[1:]
        for message in others:
            sink.write(message.serialize())
    sink.write(_END_OF_STREAM)
    return sink.getvalue()


def _messages(data: pa.Buffer) -> list[pa.Message]:
    return list(pa.ipc.MessageReader.open_stream(data))


def _ledger_block(source: Range, taken: list[Taken]) -> Block:
    """Return the ledger's rows of a range, the last of its blocks: a chunk that stands in the ledger is stored."""
    where, count = source.intent.where, len(taken)
    columns: list[Any] = [
        [where.topic] * count,
        [where.partition] * count,
        [chunk.offset for chunk in taken],
        [chunk.source for chunk in taken],
        [chunk.type for chunk in taken],
        [chunk.sequence for chunk in taken],
        [chunk.rows for chunk in taken],
        [source.intent.epoch] * count,
        [chunk.appended_ns for chunk in taken],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _CHUNK_SCHEMA, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=_CHUNK_SCHEMA)
    return Block(CHUNKS, tuple(_CHUNK_SCHEMA.names), source.intent.token("chunks"), count, _stream(batch))


def _stream(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _poison_runs(good: list[bool]) -> tuple[int, int, int]:
    """Return the lengths of the first run of refused messages, of the last one and of the longest."""
    runs = [len(run) for run in "".join("." if ok else "x" for ok in good).split(".")]
    return runs[0], runs[-1], max(runs)
