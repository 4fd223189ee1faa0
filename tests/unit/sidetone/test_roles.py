from pathlib import Path

from collector import migrations
from sidetone.roles import store_settings
from sidetone.settings import load


def test_settings_of_the_store_reach_its_tables(tmp_path: Path) -> None:
    wanted = store_settings(load(data_dir=tmp_path, store_ttl_facts_days=37, store_dedup_window=4321))
    statements = "\n".join(text for migration in migrations() for text in migration.statements(wanted))
    assert "toIntervalDay(37)" in statements or "INTERVAL 37 DAY" in statements
    assert "non_replicated_deduplication_window = 4321" in statements


def test_facts_are_kept_for_good_unless_told_otherwise(tmp_path: Path) -> None:
    wanted = store_settings(load(data_dir=tmp_path))
    assert not any("TTL" in text.split("--")[0] for migration in migrations() for text in migration.statements(wanted))
