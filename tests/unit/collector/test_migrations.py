"""The tables say what the facts' schemas say, and every one of them can tell an insert that it has."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest

from collector import StoreSettings, migrations
from eventlog.schema import FACTS, NAME, TIME, UUID_TYPE, FactType

STATEMENTS = [s for migration in migrations() for s in migration.statements(StoreSettings(dedup_window=77))]


def create(table: str) -> str:
    (found,) = [s for s in STATEMENTS if re.match(rf"CREATE TABLE IF NOT EXISTS sidetone\.{table}\s", s)]
    return found


def columns(table: str) -> dict[str, str]:
    body = create(table).partition("(")[2].partition("\nENGINE")[0]
    found = re.findall(r"^    (\w+) (.+?) CODEC\(", body, flags=re.MULTILINE)
    for change in STATEMENTS:
        if change.startswith(f"ALTER TABLE sidetone.{table}\n"):
            found += re.findall(r"^    ADD COLUMN IF NOT EXISTS (\w+) (.+?) CODEC\(", change, flags=re.MULTILINE)
    return {name: kind.partition(" DEFAULT")[0] for name, kind in found}


KINDS: dict[Any, str] = {
    NAME: "LowCardinality(String)",
    UUID_TYPE: "UUID",
    TIME: "DateTime64(9, 'UTC')",
    pa.string(): "String",
    pa.binary(): "String",
    pa.bool_(): "Bool",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.int8(): "Int8",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
}


def kind_of(field: pa.Field[Any]) -> str:
    if isinstance(field.type, pa.MapType):
        return f"Map(LowCardinality(String), {KINDS[field.type.item_type]})"
    if field.type == NAME and field.nullable:
        return "LowCardinality(Nullable(String))"
    return f"Nullable({KINDS[field.type]})" if field.nullable else KINDS[field.type]


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.name)
def test_a_table_has_the_columns_of_its_fact(fact: FactType) -> None:
    assert columns(fact.table) == {field.name: kind_of(field) for field in fact.schema}


def test_every_table_remembers_the_same_number_of_inserts() -> None:
    tables = [s for s in STATEMENTS if s.startswith("CREATE TABLE")]
    assert len(tables) == len(FACTS) + 7
    assert all("non_replicated_deduplication_window = 77" in s for s in tables)


def test_every_statement_can_be_repeated() -> None:
    changes = (" IF NOT EXISTS ", " IF EXISTS ", "MODIFY COLUMN", "MODIFY QUERY", "RENAME ")
    assert all(any(change in s for change in changes) for s in STATEMENTS)


def test_numbers_are_gapless_and_names_unique() -> None:
    assert [m.version for m in migrations()] == list(range(1, len(migrations()) + 1))


def test_retention_is_absent_unless_asked_for() -> None:
    assert not any("TTL" in s for s in STATEMENTS)
    asked = StoreSettings(ttl_facts_days=30, ttl_audio_days=7, ttl_rollup_1s_days=90, ttl_rollup_1m_days=400)
    text = "\n".join(s for m in migrations() for s in m.statements(asked))
    assert text.count("TTL toDateTime(observed_ns, 'UTC') + toIntervalDay(30)") == len(FACTS) - 1
    assert text.count("toIntervalDay(7)") == 1
    assert text.count("TTL second + toIntervalDay(90)") == text.count("TTL minute + toIntervalDay(400)") == 2
