"""Chunks of the log: only `ChunkError`, and what is accepted is a batch of the fact's schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa

from eventlog.codec import MAX_CHUNK_ROWS, ChunkError, decode, encode
from eventlog.schema import FACTS

MODULES: Final[tuple[str, ...]] = ("eventlog.codec", "eventlog.schema")

_NAMES: Final = sorted(FACTS)


_VALUES: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]], ...]] = (
    (pa.types.is_dictionary, lambda kind: _value(kind.value_type)),
    (pa.types.is_boolean, lambda _: True),
    (pa.types.is_fixed_size_binary, lambda kind: bytes(kind.byte_width)),
    (pa.types.is_string, lambda _: "x"),
    (pa.types.is_binary, lambda _: b"x"),
    (pa.types.is_map, lambda kind: [("k", _value(kind.item_type))]),
    (pa.types.is_list, lambda kind: [_value(kind.value_type)]),
)


def _value(kind: pa.DataType) -> Any:
    return next((make(kind) for is_kind, make in _VALUES if is_kind(kind)), 1)


def seeds() -> Mapping[str, bytes]:
    """A chunk of each type; its first byte says which."""
    made = {}
    for n, name in enumerate(_NAMES):
        fact = FACTS[name]
        columns = [pa.array([_value(field.type)] * 2, type=field.type) for field in fact.schema]
        made[name] = bytes((n,)) + encode(fact, pa.RecordBatch.from_arrays(columns, schema=fact.schema))
    return made


def run(data: bytes) -> None:
    """Take the first byte as the type and the rest as a chunk."""
    if not data:
        return
    fact = FACTS[_NAMES[data[0] % len(_NAMES)]]
    try:
        batch = decode(fact, data[1:])
    except ChunkError:
        return
    assert batch.schema.equals(fact.schema)
    assert 0 < batch.num_rows <= MAX_CHUNK_ROWS
    assert decode(fact, encode(fact, batch)).equals(batch)
