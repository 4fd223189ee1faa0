from __future__ import annotations

import re
from pathlib import Path

import pytest

from analytics import CATALOGUE, ERROR_KINDS, UnknownQuestionError, questions
from analytics.question import parse, question
from analytics.reference import document
from eventlog.schema import FACTS

HEADER = """\
-- title: Things
-- What they are.
-- param from DateTime64(9, 'UTC') = now-1h : start
-- param region Array(String) = : which
-- param session UUID : the call
-- column n count : how many
"""


def test_header_says_parameters_defaults_and_columns(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.sql").write_text("x AS (SELECT 1)\n")
    found = parse("things", HEADER + "WITH\n-- include: parts/one.sql\nSELECT 1 AS n\n", tmp_path)
    assert (found.title, found.description) == ("Things", "What they are.")
    assert [(p.name, p.type, p.default) for p in found.parameters] == [
        ("from", "DateTime64(9, 'UTC')", "now-1h"),
        ("region", "Array(String)", ""),
        ("session", "UUID", None),
    ]
    assert [(c.name, c.unit, c.description) for c in found.columns] == [("n", "count", "how many")]
    assert found.sql == "WITH\nx AS (SELECT 1)\nSELECT 1 AS n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1\n", "title"),
        ("-- title: T\nSELECT 1\n", "column"),
        ("-- title: T\n-- param broken\n-- column n count : n\nSELECT 1\n", "cannot read the header line"),
        ("-- title: T\n-- column n count : n\n\n-- include: parts/none.sql\n", "does not exist"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse("things", text, tmp_path)


def test_values_are_bound_and_each_bound_name_is_declared() -> None:
    for asked in questions():
        used = set(re.findall(r"\{(\w+):", asked.sql))
        assert used <= {parameter.name for parameter in asked.parameters}, asked.name
        assert "%(" not in asked.sql


def test_a_bound_name_has_the_type_that_the_header_says() -> None:
    for asked in questions():
        types = {parameter.name: parameter.type for parameter in asked.parameters}
        for name, kind in re.findall(r"\{(\w+):([^}]+)\}", asked.sql):
            assert types[name] == kind, asked.name


def test_facts_counts_by_the_identity_of_the_schema() -> None:
    sql = question("facts").sql
    for fact in FACTS.values():
        assert f"uniqExact({', '.join(fact.identity)})" in sql
        assert f"FROM sidetone.{fact.table}\n" in sql


def test_an_unknown_question_lists_the_known() -> None:
    with pytest.raises(UnknownQuestionError, match="overview"):
        question("nonsense")


def test_every_kind_of_error_is_in_the_catalogue_and_the_overview() -> None:
    columns = {column.name for column in question("overview").columns}
    assert set(ERROR_KINDS) <= columns
    assert set(ERROR_KINDS) <= set(CATALOGUE)


def test_the_reference_page_is_up_to_date() -> None:

    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert page.read_text() == document(), "run `python -m analytics.reference > docs/metrics.md`"
