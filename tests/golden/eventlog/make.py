"""Make the golden chunks beside this file: `python tests/golden/eventlog/make.py`.

They stand for what is in somebody's log: `*.v1.arrow` must stay readable, with these rows, for as long as version 1 is;
`older.arrow` is a chunk from before nullable columns were added, `packet.v1.arrow` one from before the column with a
default was, which `packet.weights.arrow` has. Everything in `malformed/` must be refused with the
reason in `malformed.json`. Run it again only to add files: existing ones are never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from eventlog.codec import encode
from eventlog.schema import FACTS, FactType

HERE: Final = Path(__file__).parent
END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_pa: Final[Any] = pa


def rows(fact: FactType, count: int) -> list[dict[str, Any]]:
    """Return rows as JSON holds them: bytes as hexadecimal digits, times as numbers, maps as lists of pairs."""
    return [{field.name: _value(field, number) for field in fact.schema} for number in range(count)]


def batch(fact: FactType, values: list[dict[str, Any]]) -> pa.RecordBatch:
    """Return such rows as a batch."""
    columns = [_pa.array([_typed(row[f.name], f.type) for row in values], type=f.type) for f in fact.schema]
    return pa.RecordBatch.from_arrays(columns, schema=fact.schema)


def plain(found: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return a batch as such rows."""
    times = [f.name for f in found.schema if pa.types.is_timestamp(f.type)]
    columns: dict[str, Any] = {name: found.column(name) for name in found.schema.names}
    columns |= {name: columns[name].cast(pa.int64()) for name in times}
    return [
        {name: _untyped(column[number].as_py()) for name, column in columns.items()} for number in range(found.num_rows)
    ]


def _value(field: Any, number: int) -> Any:
    if field.nullable and number % 3 == 2:
        return None
    return next(make(field, number) for matches, make in _MAKERS if matches(field.type))


def _map(field: Any, number: int) -> list[list[Any]]:
    item = f"value {number}" if pa.types.is_string(field.type.item_type) else number + 1
    return [[f"key {key}", item] for key in range(number % 3)]


_MAKERS: Final[list[tuple[Callable[[Any], bool], Callable[[Any, int], Any]]]] = [
    (pa.types.is_fixed_size_binary, lambda _, number: f"0190f3a1b2c37d4e8f90a1b2c3d4e5{number // 2:02x}"),
    (pa.types.is_binary, lambda _, number: bytes(range(number * 5)).hex()),
    (pa.types.is_dictionary, lambda field, number: f"{field.name}-{number % 2}"),
    (pa.types.is_string, lambda field, number: f"{field.name} {number} ü"),
    (pa.types.is_timestamp, lambda _, number: 1_790_000_000_123_456_789 + number * 20_000_001),
    (pa.types.is_boolean, lambda _, number: number % 2 == 0),
    (pa.types.is_map, _map),
    (pa.types.is_floating, lambda _, number: number * 0.25),
    (pa.types.is_signed_integer, lambda _, number: number * -7),
    (pa.types.is_unsigned_integer, lambda _, number: number * 7),
]


def _typed(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        return [tuple(pair) for pair in value]
    return bytes.fromhex(value) if isinstance(value, str) and _is_octets(kind) else value


def _is_octets(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _untyped(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [list(pair) for pair in value] if isinstance(value, list) else value


def stream(schema: Any, batches: list[Any]) -> bytes:
    """Return an Arrow stream of whatever is handed in, unchecked."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for each in batches:
            writer.write_batch(each)
    return sink.getvalue().to_pybytes()


def without(whole: pa.RecordBatch, *names: str) -> pa.RecordBatch:
    """Return a batch that lacks columns."""
    return whole.select([name for name in whole.schema.names if name not in names])


def malformed() -> dict[str, tuple[str, bytes]]:
    """Return what is to be refused, all of it sent as `leg` facts: name -> (reason, bytes)."""
    leg = FACTS["leg"]
    whole = batch(leg, rows(leg, 6))
    good = encode(leg, whole)
    at = whole.schema.get_field_index("rtt_us")
    wider = whole.set_column(
        at, pa.field("rtt_us", pa.int64(), nullable=False), whole.column("rtt_us").cast(pa.int64())
    )
    nullable = pa.schema([field.with_nullable(True) for field in leg.schema])
    nulls = [_pa.nulls(6, f.type) if f.name == "rtt_us" else whole.column(f.name) for f in leg.schema]
    turn = FACTS["turn"]
    extra: Any = whole.append_column("one_way_us", whole.column("rtt_us"))
    twice: Any = whole.append_column("rtt_us", whole.column("rtt_us"))
    return {
        "empty.bin": ("truncated", b""),
        "junk.bin": ("truncated", bytes(range(256)) * 4),
        "junk_with_end.bin": ("corrupt", bytes(range(256)) * 4 + END),
        "end_only.arrow": ("corrupt", END),
        "cut_in_schema.arrow": ("truncated", good[:100]),
        "cut_in_batch.arrow": ("truncated", good[: len(good) - 200]),
        "cut_in_end.arrow": ("truncated", good[:-1]),
        "cut_and_ended.arrow": ("corrupt", good[: len(good) - 200] + END),
        "trailing.arrow": ("corrupt", good + good[-100:]),
        "two_streams.arrow": ("corrupt", good + good),
        "no_batch.arrow": ("truncated", stream(leg.schema, [])),
        "two_batches.arrow": ("corrupt", stream(leg.schema, [whole, whole])),
        "no_rows.arrow": ("bad_row_count", stream(leg.schema, [whole.slice(0, 0)])),
        "other_type.arrow": ("wrong_schema", encode(turn, batch(turn, rows(turn, 2)))),
        "newer_column.arrow": ("wrong_schema", stream(extra.schema, [extra])),
        "column_twice.arrow": ("wrong_schema", stream(twice.schema, [twice])),
        "column_missing.arrow": ("wrong_schema", stream(without(whole, "rtt_us").schema, [without(whole, "rtt_us")])),
        "column_wider.arrow": ("wrong_schema", stream(wider.schema, [wider])),
        "null.arrow": ("null_value", stream(nullable, [_pa.RecordBatch.from_arrays(nulls, schema=nullable)])),
        "bad_index.arrow": ("corrupt", stream(leg.schema, [_bad_index(leg, whole)])),
    }


def _bad_index(leg: FactType, whole: pa.RecordBatch) -> Any:
    """Return a batch whose method names are not in its dictionary."""
    index = _pa.array([0, 1, 9, 0, 1, 0], type=pa.int32())
    method = _pa.DictionaryArray.from_arrays(index, _pa.array(["stun", "rtcp"]), safe=False)
    columns = [method if f.name == "method" else whole.column(f.name) for f in leg.schema]
    return _pa.RecordBatch.from_arrays(columns, schema=leg.schema)


def _write(name: str, data: bytes) -> None:
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(data)


def main() -> None:
    """Write the files that are not there yet."""
    for fact in FACTS.values():
        values = rows(fact, 7)
        _write(f"{fact.name}.v1.arrow", encode(fact, batch(fact, values)))
        _write(f"{fact.name}.v1.json", json.dumps(values, indent=1, ensure_ascii=False).encode() + b"\n")
    packet = FACTS["packet"]
    _write("packet.weights.arrow", encode(packet, batch(packet, rows(packet, 7))))
    leg = FACTS["leg"]
    old = without(batch(leg, rows(leg, 7)), "remote_region")
    _write("older.arrow", stream(old.schema, [old]))
    for name, (_, data) in malformed().items():
        _write(f"malformed/{name}", data)
    reasons = {name: reason for name, (reason, _) in malformed().items()}
    (HERE / "malformed.json").write_text(json.dumps(reasons, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
