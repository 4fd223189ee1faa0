"""Synthetic facts from a seed: any type for tests, and packets as calls make them for benchmarks."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from eventlog.cloudevents import headers
from eventlog.codec import encode
from eventlog.port import Record, TopicPartition
from eventlog.resolution import coarse_us_many
from eventlog.schema import NAME, PACKET, PACKET_TIME_NS, TAPS, TIME, UUID_TYPE, FactType

NAMES: Final = ("amber", "basil", "cedar", "delta")
START_NS: Final = 1_790_000_000_000_000_000
"""2026-09-21T13:33:20Z."""
PACKET_NS: Final = 20_000_000

Column = Any
"""A pyarrow array of the type that the schema asks for."""


def sample(fact: FactType, rows: int, rng: np.random.Generator, *, start_ns: int = START_NS) -> pa.RecordBatch:
    """Return `rows` facts of any type, 1 ms apart, with random values in every column and NULL where that may be."""
    columns = []
    for field in fact.schema:
        if field.name == "observed_ns":
            columns.append(_times(start_ns + np.arange(rows) * 1_000_000))
        elif field.name in fact.defaults:  # weights, as large as a policy makes them
            columns.append(pa.array(rng.integers(1, 50, rows), field.type))
        else:
            nulls = rng.random(rows) < 0.3 if field.nullable else np.zeros(rows, dtype=bool)
            columns.append(_values(field.type, nulls, rng))
    return pa.RecordBatch.from_arrays(columns, schema=fact.schema)


def packets(
    rng: np.random.Generator, *, sessions: int, rows: int, region: str, start_ns: int = START_NS
) -> pa.RecordBatch:
    """Return about `rows` packets, sorted as an edge emits them: per session and tap one 50 Hz Opus stream.

    Jitter is a few milliseconds, 1 % is lost, 60 % is speech, timestamps and sequence numbers advance as RTP's do.
    Times are cut to `PACKET_TIME_NS` as where packets are captured.
    """
    streams = [(session, tap) for session in range(sessions) for tap in TAPS[:2]]
    each = max(1, rows // len(streams))
    total = each * len(streams)
    lost = (rng.random((len(streams), each)) < 0.01).astype(np.int32)
    tick = np.arange(each) + np.cumsum(lost, axis=1)
    jitter = rng.gamma(2.0, 1_500.0, (len(streams), each)).astype(np.int64)  # µs
    observed = start_ns + tick.astype(np.int64) * PACKET_NS + jitter * 1000 + rng.integers(0, 1000, tick.shape)
    observed = np.maximum.accumulate(observed, axis=1)
    observed -= observed % PACKET_TIME_NS
    delta = coarse_us_many(np.diff(jitter, axis=1, prepend=0).astype(np.int32))
    first = rng.integers(0, 1 << 16, (len(streams), 1))
    identifiers = np.sort(_uuids(sessions, rng))
    session_of = np.repeat(np.repeat(identifiers, 2), each)
    nothing = np.ones(total, dtype=bool)
    # Talk spurts and pauses of a second or so; in a pause Opus sends what comfort noise takes.
    voiced = np.repeat(rng.random((total // 50 + 1,)) < 0.6, 50)[:total]
    level = np.where(voiced, -30 + np.cumsum(rng.integers(-2, 3, total)) % 24 - 12, -80 + rng.integers(-1, 2, total))
    size = np.where(voiced, rng.normal(95, 8, total), rng.normal(52, 1, total))
    columns: dict[str, Any] = {
        "session_id": pa.array(session_of.tolist(), UUID_TYPE),
        "region": _constant(region, total),
        "host_id": _constant(f"edge-{region}", total),
        "observed_ns": _times(observed.ravel()),
        "tap": pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(np.arange(len(streams)) % 2, each), pa.int32()), pa.array(TAPS[:2])
        ),
        "stream": pa.array(np.repeat(rng.integers(0, 1 << 32, len(streams)), each), pa.uint32()),
        "ext_seq": pa.array((first + tick).ravel(), pa.int64()),
        "rtp_ts": pa.array(((tick * 960 + first * 7919) % (1 << 32)).ravel(), pa.uint32()),
        "payload_type": pa.array(np.full(total, 111), pa.uint8()),
        "marker": pa.array((tick == 0).ravel()),
        "size_bytes": pa.array(np.clip(size, 40, 200).astype(np.uint16)),
        "audio_level_dbov": pa.array(level.astype(np.int8)),
        "voice_activity": pa.array(voiced),
        "dscp": pa.array(np.zeros(total, dtype=np.uint8), mask=nothing),
        "transit_delta_us": pa.array(delta.ravel(), mask=(np.arange(total) % each) == 0),
        "newly_lost": pa.array(lost.ravel()),
        "reordered": pa.array(np.zeros(total, dtype=bool)),
        "duplicate": pa.array(np.zeros(total, dtype=bool)),
        "represents": pa.array(np.ones(total, dtype=np.uint32)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in PACKET.schema.names], schema=PACKET.schema)


def record(fact: FactType, batch: pa.RecordBatch, *, source: str, sequence: int, partition: int = 0) -> Record:
    """Return the batch as a message for the log, as an emitter would append it."""
    data = encode(fact, batch)
    time_ns = START_NS + sequence
    return Record(
        TopicPartition(fact.topic, partition), data, headers(fact, source, sequence, batch.num_rows, data, time_ns)
    )


def _uuids(count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    raw = np.frombuffer(rng.bytes(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x70  # RFC 9562, 5.7: version 7
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    raw[:, 15] |= 1  # numpy drops trailing zero bytes of bytes values
    return raw.view("S16").ravel()


def _times(ns: np.ndarray[Any, Any]) -> Column:
    return pa.array(ns, pa.int64()).cast(TIME)


def _constant(value: str, rows: int) -> Column:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows), pa.int32()), pa.array([value]))


def _values(kind: pa.DataType, nulls: np.ndarray[Any, Any], rng: np.random.Generator) -> Column:
    rows = len(nulls)
    if kind == NAME:
        indices = pa.array(rng.integers(0, len(NAMES), rows), pa.int32(), mask=nulls)
        return pa.DictionaryArray.from_arrays(indices, pa.array(rng.permutation(NAMES)))
    if kind == UUID_TYPE:
        return pa.array(_uuids(rows, rng).tolist(), UUID_TYPE)
    if kind == TIME:
        return pa.array(rng.integers(START_NS, START_NS + 10**12, rows), pa.int64(), mask=nulls).cast(TIME)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.array(_numbers(np.dtype(kind.to_pandas_dtype()), rows, rng), kind, mask=nulls)
    return pa.array([None if null else _nested(kind, rng) for null in nulls], kind)


def _numbers(kind: np.dtype[Any], rows: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return values over the whole range of an integer type, or around zero for floats."""
    if kind.kind == "b":
        return rng.random(rows) < 0.5
    if kind.kind == "f":
        return rng.normal(0, 1000, rows).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, rows, dtype=kind, endpoint=True)


def _nested(kind: pa.DataType, rng: np.random.Generator) -> Any:
    if pa.types.is_binary(kind):
        return rng.bytes(int(rng.integers(0, 40)))
    if pa.types.is_string(kind):
        return "".join(rng.choice(list("aß€🎧'\"\\\n{}:, "), int(rng.integers(0, 12))))
    if isinstance(kind, pa.MapType):
        keys = [key for key in NAMES if rng.random() < 0.6]
        return [(key, _scalar(kind.item_type, rng)) for key in keys]
    raise TypeError(f"no sample values for Arrow type {kind}")


def _scalar(kind: pa.DataType, rng: np.random.Generator) -> Any:
    return _values(kind, np.zeros(1, dtype=bool), rng)[0].as_py()
