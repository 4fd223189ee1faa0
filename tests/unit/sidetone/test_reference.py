from pathlib import Path

from sidetone import reference

DOCS = Path(__file__).parents[3] / "docs"
REMEDY = "run: python -m sidetone.reference"


def test_settings_page_is_up_to_date() -> None:
    assert (DOCS / "settings.md").read_text() == reference.settings_page(), REMEDY


def test_command_page_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text() == reference.cli_page(), REMEDY
