"""What commands say when they are asked for something that cannot be: what is wrong, and what to do."""

import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from collector.rebuild import tables_of
from sidetone.cli import app, output
from sidetone.cli.doctor import examine
from sidetone.cli.output import cell, table
from sidetone.cli.stack import welcome
from sidetone.settings import load
from voice.netem import PROFILES


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDETONE_DATA_DIR", str(tmp_path / "data"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SIDETONE_STORE_PORT", str(free.getsockname()[1]))


def failure(*arguments: str) -> str:
    error = CliRunner().invoke(app, arguments).exception
    assert error is not None
    return str(error)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query", "overwiev"], "there is no question 'overwiev'; ask one of: answers_stored"),
        (["query", "overview", "-p", "when=now"], "overview does not know when; it takes from, region, to, total"),
        (["query", "overview", "-p", "from=yesterday"], "is no time (start of the window"),
        (["query", "overview", "-p", "from=yesterday"], "write now, now-15m, ISO 8601"),
        (["query", "overview", "-p", "from"], "is not NAME=VALUE"),
        (["session", "abc"], "session is 'abc', which is no UUID"),
    ],
)
def test_a_wrong_question_is_told_though_no_store_answers(arguments: list[str], says: str) -> None:
    assert says in failure(*arguments)


def test_an_address_to_call_that_is_none_is_told_without_a_call() -> None:
    said = failure("call", "--url", "voice.test:8080")
    assert "--url voice.test:8080 is no address" in said
    assert "write http://host:port" in said


def test_a_right_question_without_a_store_says_how_to_start_one() -> None:
    said = failure("query", "overview")
    assert "(connection refused)" in said
    assert "start it with `sidetone up`" in said


@pytest.mark.parametrize("arguments", [["dlq", "list"], ["dlq", "replay", "--all"], ["rebuild", "turns"]])
def test_no_log_is_not_taken_for_an_empty_one(arguments: list[str], tmp_path: Path) -> None:
    said = failure(*arguments)
    assert f"there is no event log {tmp_path / 'data' / 'log.sqlite'}" in said
    assert "--data-dir" in said
    assert not (tmp_path / "data").exists()


def test_rebuild_without_a_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.sqlite").touch()  # to SQLite an empty database
    result = CliRunner().invoke(app, ["rebuild", "turns"])
    assert "does not answer (connection refused); start it with `sidetone up`" in str(result.exception)
    assert result.output == ""


def test_a_misspelt_variable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_ENDPONT_SILENCE_MS", "700")
    found = {one.check: one for one in examine(load(), ports=False)}["settings"]
    assert found.state == "warning"
    assert "SIDETONE_ENDPONT_SILENCE_MS: no setting is called that" in found.detail
    assert "perhaps SIDETONE_ENDPOINT_SILENCE_MS is meant" in found.detail


def test_variables_of_the_deployment_are_no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIDETONE_OPENAI_API_KEY", "SIDETONE_READER_PASSWORD", "SIDETONE_PUBLIC_HOST", "SIDETONE_API_PORT"):
        monkeypatch.setenv(name, "1")
    assert {one.check: one for one in examine(load(), ports=False)}["settings"].state == "ok"


def help_of(command: str) -> str:
    lines = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    return " ".join(lines.replace("│", " ").split())


def test_help_names_every_network_and_every_table() -> None:
    *some, last = PROFILES
    assert f"{', '.join(some)} or {last}" in help_of("call")
    said = help_of("rebuild")
    tables = {name for name in said.replace(",", " ").replace(".", " ").split() if name in tables_of_all()}
    assert tables == tables_of_all()


def tables_of_all() -> set[str]:
    raw = ["audio", "clients", "emitters", "frames", "inputs", "legs", "packets", "sessions", "turns", "region_1m"]
    return set(tables_of(raw))


def test_help_tells_defaults() -> None:
    assert "[SIDETONE_DATA_DIR, default ~/.local/share/sidetone]" in help_of("up")
    assert "[SIDETONE_API_PORT, default 8090]" in help_of("api")
    assert "what an earlier demo left there is deleted" in help_of("demo")


def test_a_value_that_is_not_there_has_no_unit(capsys: pytest.CaptureFixture[str]) -> None:
    table("One", [("errors found", "utterance"), ("loss", "ratio"), ("wait", "ms")], [("", None, 3.0)])
    printed = capsys.readouterr().out
    assert "utterance" not in printed
    assert "ratio" not in printed
    assert "3 ms" in printed


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.000412, "ratio", "0.000412"),
        (0.0, "ratio", "0"),
        (1, "flag", "yes"),
        (0, "flag", "no"),
        (None, "flag", "\N{EN DASH}"),
    ],
)
def test_a_small_ratio_is_not_nothing_and_a_flag_is_no_number(value: object, unit: str, shown: str) -> None:
    assert cell(value, unit) == shown


@pytest.mark.parametrize(
    ("terminal", "width", "by_column"),
    [(True, 60, True), (True, 200, False), (True, 20, False), (False, 60, False)],
    ids=["too narrow", "wide enough", "too narrow for either", "no terminal"],
)
def test_rows_wider_than_the_terminal_are_shown_a_column_a_line(
    terminal: bool, width: int, by_column: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "stdout", Console(force_terminal=terminal, width=width, color_system=None))
    columns = [(f"a_quite_long_name_{n}", "count") for n in range(5)]
    table("Two", columns, [range(5), range(5, 10)], scope="from then to now")
    title, scope, *lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert (title, scope) == ("Two", "from then to now")
    if by_column:
        assert [line.split() for line in lines] == [[f"a_quite_long_name_{n}", f"{n}", f"{n + 5}"] for n in range(5)]
    else:
        assert [line.split() for line in lines[-2:]] == [list("01234"), list("56789")]


@pytest.mark.parametrize("dashboard", [True, False])
def test_the_stack_names_only_what_runs(dashboard: bool, capsys: pytest.CaptureFixture[str]) -> None:
    welcome(load(), dashboard=dashboard)
    said = capsys.readouterr().err
    assert ":8080/" in said
    assert (":8501/" in said, ":8090/" in said) == (dashboard, dashboard)
