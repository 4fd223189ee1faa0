"""Which part of the store an answer on the command line is of."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from analytics import Answer, Column
from sidetone.cli import answers, app

BOUND = {
    "from": "2026-03-01 10:00:00.000000000",
    "to": "2026-03-02 10:00:00.123456789",
    "region": ["eu-west", "us-east"],
    "errors": False,
    "limit": 20,
}


def test_an_answer_says_its_window_and_what_it_was_narrowed_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def run(_client: object, name: str, params: dict[str, Any]) -> Answer:
        asked.update(params)
        return Answer(name, "Calls, newest first", (Column("turns", "count", ""),), [], BOUND)

    monkeypatch.setattr("analytics.connect", lambda *_address: None)
    monkeypatch.setattr("analytics.run", run)
    answers.sessions(region=["eu-west", "us-east"])
    assert asked["from"] == "now-1d"
    title, scope, *_ = capsys.readouterr().out.splitlines()
    assert title == "Calls, newest first"
    assert scope == ("from 2026-03-01 10:00:00 UTC, to 2026-03-02 10:00:00 UTC, region eu-west us-east, limit 20")


def test_a_time_that_is_none_is_told_before_the_store_is_asked() -> None:
    error = CliRunner().invoke(app, ["sessions", "--from", "yesterday"]).exception
    assert "write now, now-15m, ISO 8601" in str(error)
