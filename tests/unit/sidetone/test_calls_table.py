"""What `sidetone call` shows of a call: what is not known is no zero, and whose errors they are."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from sidetone.cli import calls, output

ERRORS = [{"kind": "dead_air", "turn": 1, "side": "user"}, {"kind": "late_response", "turn": 2, "side": "agent"}]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "stdout", Console(width=200))


def shown(capsys: pytest.CaptureFixture[str], platform: dict[str, Any], **changes: Any) -> dict[str, str]:
    one = {
        "session_id": "a",
        "region": "eu-west",
        "network": "perfect",
        "script": "simple",
        "utterances": [],
        "answers": [],
        "uplink": {"streams": []},
        "expected": [],
        "finished": True,
        "error": None,
        "platform": platform,
    }
    calls._show({"calls": [one | changes]})
    lines = [line.strip().split("   ", 1) for line in capsys.readouterr().out.splitlines()]
    return {line[0]: line[1].strip() for line in lines if len(line) > 1}


def test_errors_of_the_user_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(
        capsys, {"source": "store", "turns": [{"listener_ms": 900.0}, {"listener_ms": None}], "errors": ERRORS}
    )
    assert table["errors found (at utterance)"] == "dead_air (1, of the user), late_response (2)"
    assert table["measured"] == "1 turns"


def test_errors_that_nobody_looked_for_are_not_none(capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(capsys, {"source": "data channel", "turns": [], "errors": None})
    assert table["errors found (at utterance)"] == "\N{EN DASH}"


def test_a_script_that_was_cut_short_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, Any] = {"source": "store", "turns": [], "errors": []}
    assert shown(capsys, nothing, finished=False)["script"] == "simple, not to its end"
    assert shown(capsys, nothing, finished=False, error="does not answer")["script"] == "simple"
