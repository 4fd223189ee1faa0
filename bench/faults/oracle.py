"""The oracle: what was handed over against what is stored, never the store against itself.

Raw rows are compared value by value, every rollup with sums made here from the source.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from eventlog.schema import FACTS, PACKET, TIME, UUID_TYPE, FactType

Window = tuple[int, int]
"""From and to, UTC nanoseconds, on whole minutes; the end is not in it."""

SECOND_NS = 1_000_000_000
SUMS = ("packets", "bytes", "lost", "duplicates", "reordered", "transit_abs_us_sum", "transit_count", "kept")
ROLLUPS = {
    "packets_1s": ("region", "tap", "session_id", "stream", "second"),
    "packets_1m": ("region", "tap", "session_id", "stream", "minute"),
    "region_1s": ("region", "tap", "second"),
    "region_1m": ("region", "tap", "minute"),
}
PER_STREAM = ("transit_abs_us_max", "min_ext_seq", "max_ext_seq")


def source_rows(fact: FactType, batches: Iterable[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    """Return what was handed to the log, in plain values: UUID text, nanoseconds, hexadecimal bytes."""
    rows = []
    for batch in batches:
        columns = [_plain(field.type, batch.column(field.name)) for field in fact.schema]
        rows += list(zip(*columns, strict=True))
    return rows


def _plain(kind: pa.DataType, column: Any) -> list[Any]:
    if kind == TIME:
        return list(column.cast(pa.int64()).to_pylist())
    values = column.to_pylist()
    if kind == UUID_TYPE:
        return [str(uuid.UUID(bytes=value)) for value in values]
    if pa.types.is_binary(kind):
        return [value.hex().upper() for value in values]
    if isinstance(kind, pa.MapType):
        return [tuple(sorted(value)) for value in values]
    return list(values)


def stored_rows(client: Client, fact: FactType, window: Window | None = None) -> list[tuple[Any, ...]]:
    """Return the table's rows in the same plain values."""
    selected = []
    for field in fact.schema:
        name = f"`{field.name}`"
        if field.type == TIME:
            name = f"toUnixTimestamp64Nano({name})"
        elif field.type == UUID_TYPE:
            name = f"toString({name})"
        elif pa.types.is_binary(field.type):
            name = f"hex({name})"
        selected.append(name)
    rows = client.query(
        f"SELECT {', '.join(selected)} FROM sidetone.{fact.table}{_within('observed_ns', window)}"
    ).result_rows
    return [tuple(tuple(sorted(v.items())) if isinstance(v, dict) else v for v in row) for row in rows]


@dataclass(frozen=True)
class Verdict:
    """What the store has wrong.

    Attributes:
        lost: rows by base table that were handed over and are not stored.
        doubled: rows by base table that are stored and were not handed over, or more often than that.
        rollups: what is wrong by rollup.

    """

    lost: dict[str, int]
    doubled: dict[str, int]
    rollups: dict[str, str]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.rollups)


def judge(client: Client, source: Mapping[str, list[pa.RecordBatch]], window: Window | None = None) -> Verdict:
    """Compare base tables, row for row and value for value, and all rollups; within a window if one is given."""
    lost, doubled = {}, {}
    for name, batches in source.items():
        fact = FACTS[name]
        wanted, found = Counter(source_rows(fact, batches)), Counter(stored_rows(client, fact, window))
        if missing := (wanted - found).total():
            lost[fact.table] = missing
        if more := (found - wanted).total():
            doubled[fact.table] = more
    return Verdict(lost, doubled, rollup_differences(client, source.get(PACKET.name, []), window))


def differences(client: Client, source: Mapping[str, list[pa.RecordBatch]]) -> dict[str, str]:
    """Return by table what the store has wrong against the source; empty if nothing."""
    verdict = judge(client, source)
    wrong = {
        table: f"{verdict.lost.get(table, 0)} rows missing, {verdict.doubled.get(table, 0)} too many"
        for table in verdict.lost.keys() | verdict.doubled.keys()
    }
    return wrong | verdict.rollups


def rollup_differences(client: Client, batches: list[pa.RecordBatch], window: Window | None = None) -> dict[str, str]:
    """Compare every rollup with sums over the source; percentiles with those over the (compared) raw rows."""
    wrong = {}
    for table, keys in ROLLUPS.items():
        per_stream = "stream" in keys
        wanted = _rolled_up(batches, keys)
        sums = [f"sum({column})" for column in SUMS]
        if per_stream:
            sums += ["max(transit_abs_us_max)", "min(min_ext_seq)", "max(max_ext_seq)"]
        of_keys = [{"session_id": "toString(session_id)", "second": "toUnixTimestamp(second)"}.get(k, k) for k in keys]
        of_keys = ["toUnixTimestamp(minute)" if k == "minute" else k for k in of_keys]
        where = _within(keys[-1], window)
        rows = client.query(
            f"SELECT {', '.join(of_keys)}, {', '.join(sums)} FROM sidetone.{table}{where} GROUP BY {', '.join(keys)}"
        ).result_rows
        found = {tuple(row[: len(keys)]): tuple(row[len(keys) :]) for row in rows}
        if found != wanted:
            bad = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
            wrong[table] = f"{len(bad)} groups differ, such as {bad[0]}: {found.get(bad[0])}, not {wanted.get(bad[0])}"
        elif not per_stream:
            quantiles = "0.01, 0.5, 0.9, 0.95, 0.99"
            merged = client.query(
                f"SELECT quantilesDDMerge({quantiles})(transit_abs_us_dd) FROM sidetone.{table}{where}"
            )
            direct = client.query(
                f"SELECT quantilesDD({quantiles})(change) FROM (SELECT abs(transit_delta_us) AS change "
                f"FROM sidetone.packets ARRAY JOIN range(represents){_within('observed_ns', window)})"
            )
            if batches and merged.result_rows != direct.result_rows:
                wrong[table] = f"percentiles {merged.result_rows[0][0]}, not {direct.result_rows[0][0]}"
    return wrong


def _within(column: str, window: Window | None) -> str:
    if window is None:
        return ""
    time = "fromUnixTimestamp64Nano({}, 'UTC')" if column == "observed_ns" else "toDateTime({}, 'UTC')"
    scale = 1 if column == "observed_ns" else SECOND_NS
    first, end = (time.format(at // scale) for at in window)
    return f" WHERE {column} >= {first} AND {column} < {end}"


def _rolled_up(batches: list[pa.RecordBatch], keys: tuple[str, ...]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    groups: defaultdict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    names = PACKET.schema.names
    for values in source_rows(PACKET, batches):
        row = dict(zip(names, values, strict=True))
        row["second"] = row["observed_ns"] // SECOND_NS
        row["minute"] = row["second"] // 60 * 60
        groups[tuple(row[key] for key in keys)].append(row)
    rolled = {}
    for key, rows in groups.items():
        timed = [row for row in rows if row["transit_delta_us"] is not None]
        changes = [abs(row["transit_delta_us"]) for row in timed]
        sums = (
            sum(row["represents"] for row in rows),
            *(
                sum(row[name] * row["represents"] for row in rows)
                for name in ("size_bytes", "newly_lost", "duplicate", "reordered")
            ),
            sum(abs(row["transit_delta_us"]) * row["represents"] for row in timed),
            sum(row["represents"] for row in timed),
            len(rows),
        )
        sequence = [row["ext_seq"] for row in rows]
        per_stream = (max(changes, default=0), min(sequence), max(sequence)) if "stream" in keys else ()
        rolled[key] = sums + per_stream
    return rolled
