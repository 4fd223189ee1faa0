import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sidetone.cli import app
from sidetone.cli.doctor import examine
from sidetone.settings import load


def found(data_dir: Path, **flags: object) -> dict[str, tuple[str, str]]:
    settings = load(data_dir=data_dir, **flags)
    return {one.check: (one.state, one.detail) for one in examine(settings, ports=True)}


def test_sound_machine_has_no_problem(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--no-ports", "--json", "--data-dir", str(tmp_path)])
    findings = json.loads(result.stdout)["findings"]
    assert {one["check"] for one in findings} >= {"python", "data dir", "log", "opus"}
    assert [one for one in findings if one["state"] == "problem"] == []
    assert result.exit_code == 0


def test_damaged_log_is_found_and_named(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    state, detail = found(tmp_path)["log"]
    assert state == "problem"
    assert "log.sqlite is damaged" in detail
    result = CliRunner().invoke(app, ["doctor", "--no-ports", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1


def test_busy_port_is_found_and_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        state, detail = found(tmp_path, api_port=port)["ports"]
    assert state == "problem"
    assert f"{port} (api_port)" in detail


def test_missing_speech_synthesis_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state, detail = found(tmp_path)["speech synthesis"]
    assert state == "warning"
    assert "apt-get install espeak-ng" in detail
    espeak = tmp_path / "espeak-ng"
    espeak.touch(mode=0o755)
    assert found(tmp_path)["speech synthesis"] == ("ok", str(espeak))


def test_data_dir_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state, _ = found(tmp_path / "file" / "data")["data dir"]
    assert state == "problem"


@pytest.mark.parametrize("command", ["sessions", "query", "session", "demo", "call", "doctor"])
def test_everything_that_answers_speaks_json(command: str) -> None:
    assert "--json" in CliRunner().invoke(app, [command, "--help"]).stdout
