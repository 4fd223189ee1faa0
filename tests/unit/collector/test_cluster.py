"""One set of migrations, for one host and for a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector import CollectorHaltedError, StoreSettings, migrations
from collector.cluster import on_cluster
from collector.cluster_check import statements as check_statements
from collector.migrate import BOOTSTRAP, placed

GOLDEN = Path(__file__).parents[2] / "golden" / "collector" / "cluster.sql"


def rendered(settings: StoreSettings) -> list[str]:
    return [*placed(BOOTSTRAP, settings), *(s for m in migrations() for s in m.statements(settings))]


def test_the_statements_for_a_cluster_are_the_golden_ones() -> None:
    """If they are meant to change: write `";\\n\\n".join(rendered(…)) + ";\\n"` into the golden file and read it."""
    text = ";\n\n".join(rendered(StoreSettings(cluster="facts", ttl_facts_days=30))) + ";\n"
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_every_statement_is_for_all_hosts_and_every_table_is_replicated() -> None:
    made = rendered(StoreSettings(cluster="facts"))
    assert all("ON CLUSTER 'facts'" in statement for statement in made)
    assert not any("non_replicated" in statement for statement in made)
    tables = [s for s in made if s.startswith("CREATE TABLE")]
    assert all("ENGINE = Replicated" in s or "ENGINE = Distributed" in s for s in tables)
    windows = [
        re.search(r"replicated_deduplication_window = (\d+)", s) for s in tables if "SETTINGS" in s and "_local" in s
    ]
    assert {found and found[1] for found in windows} == {"10000"}


def test_views_stay_on_their_shard() -> None:
    views = [s for s in rendered(StoreSettings(cluster="facts")) if "MATERIALIZED VIEW" in s]
    changed = [s for s in rendered(StoreSettings(cluster="facts")) if "MODIFY QUERY" in s]
    assert len(views) == len(changed) == 4
    assert all(re.search(r"TO sidetone\.\w+_local AS", view) for view in views)
    for view in views + changed:
        assert re.findall(r"FROM sidetone\.(\w+)", view)[0].endswith("_local")


def test_a_new_column_is_added_on_the_shards_and_then_above_them() -> None:
    made = on_cluster("ALTER TABLE sidetone.packets\n    ADD COLUMN IF NOT EXISTS x UInt8 CODEC(ZSTD(1))", "facts")
    assert [s.split()[2] for s in made] == ["sidetone.packets_local", "sidetone.packets"]


def test_one_host_has_none_of_it() -> None:
    assert not any("CLUSTER" in s or "Replicated" in s or "Distributed" in s for s in rendered(StoreSettings()))


def test_the_check_touches_its_own_database_only() -> None:
    for statement in check_statements("facts"):
        assert not re.search(r"\bsidetone\b", statement)


@pytest.mark.parametrize("name", ["", "a'; DROP DATABASE sidetone", "a b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CollectorHaltedError, match="is no name of a cluster"):
        on_cluster("CREATE DATABASE IF NOT EXISTS sidetone", name)


def test_a_statement_of_an_unknown_form_is_refused() -> None:
    with pytest.raises(CollectorHaltedError, match="no form of this statement"):
        on_cluster("ALTER TABLE sidetone.packets ADD COLUMN x UInt8", "facts")
