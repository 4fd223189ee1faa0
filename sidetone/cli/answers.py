"""Commands that ask the store: `sessions`, `session ID`, `query NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any

import typer

from sidetone.cli import output
from sidetone.cli.options import Json, StoreHost, StorePort
from sidetone.settings import SettingsError, load

_PANEL = "Answers"
_SESSION_PARTS = ("session_turns", "session_waterfall")
_BEFORE_NS = 1_000_000_000
_HINDSIGHT_NS = 60_000_000_000
"""Some errors are of a time after the last that was seen of a call."""

_LEFT_OUT = {
    "sessions": {"ended_ns", "client", "close_reason", "latency_n", "latency_max_ms"},
    "session_turns": {"observed_ns", "mono_ns", "inputs", "probability", "threshold", "text"},
    "session_waterfall": {"user_speech_stopped_ns", "unmeasured_ms"},
}
"""Columns that tables for people do without; `--json` has them all."""

_WINDOW = frozenset({"from", "to"})
_TO_THE_SECOND = len("2026-03-02 10:00:00")

_KNOWN = frozenset({"session_id", "region"})
"""Columns that say the same in each row of one call."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (sessions, session, query):
        app.command(rich_help_panel=_PANEL)(command)


def sessions(
    region: Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")] = None,
    since: Annotated[
        str, typer.Option("--from", help="Only calls offered since then: now-15m, now-7d, or ISO 8601 (UTC).")
    ] = "now-1d",
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1, max=10_000)] = 20,
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """List recorded calls, newest first."""
    with _asking(store_host, store_port) as ask:
        answer = ask("sessions", {"from": since, "region": region or [], "limit": limit})
        _show(answer, json, scope=_scope(answer))


def session(
    session_id: Annotated[str, typer.Argument(help="A session id, as `sidetone sessions` lists them.")],
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """Show one call: what it was, what went wrong in it, its turns, and where each answer's time went."""
    with _asking(store_host, store_port) as ask:
        found = ask("session", {"session": session_id})
        if not found.rows:
            raise SettingsError(
                f"no session {session_id} is in the store; `sidetone sessions --from now-7d` lists a week's"
            )
        call = found.records()[0]
        around = {"from": call["began_ns"] - _BEFORE_NS, "to": call["last_ns"] + _HINDSIGHT_NS}
        errors = ask("turn_errors", around | {"session": session_id})
        answers = [found, errors, *(ask(name, {"session": session_id}) for name in _SESSION_PARTS)]
        if json:
            output.json_object({answer.name: answer.to_json() for answer in answers})
            return
        for answer in answers:
            _show(answer, as_json=False, known=_KNOWN if answer is errors else frozenset())


def query(
    name: Annotated[str | None, typer.Argument(help="Name of a question; none lists them all.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="Parameter of the question, NAME=VALUE; may be repeated.")
    ] = None,
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """Ask one of the catalogued questions.

    What each answers, takes and gives is in docs/metrics.md.

    Example: `sidetone query overview -p region=eu-west -p from=now-15m`
    """
    if name is None:
        _list_questions(json)
        return
    with _asking(store_host, store_port) as ask:
        answer = ask(name, dict(_pair(text) for text in param or []))
        _show(answer, json, scope=_scope(answer))


def _list_questions(as_json: bool) -> None:
    from analytics import questions  # noqa: PLC0415 - `--help` must not load it

    known = questions()
    if as_json:
        output.json_object({question.name: question.to_dict() for question in known})
        return
    output.table(
        "Questions",
        [("name", ""), ("asks", ""), ("parameters", "")],
        [
            (question.name, question.title, " ".join(parameter.name for parameter in question.parameters))
            for question in known
        ],
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"--param {text!r} is not NAME=VALUE")
    return name, value


@contextmanager
def _asking(store_host: str | None, store_port: int | None) -> Iterator[Any]:
    from analytics import QuestionError, check, connect, run  # noqa: PLC0415 - `--help` must not load it

    settings = load(store_host=store_host, store_port=store_port)
    output.say_errors_once()
    connected = cache(lambda: connect(*settings.store()))

    def ask(name: str, params: dict[str, Any]) -> Any:
        check(name, params)  # what is wrong with the question is said whether or not a store answers
        return run(connected(), name, params)

    try:
        yield ask
    except QuestionError as error:
        raise SettingsError(str(error)) from None


def _scope(answer: Any) -> str:
    """Return which part of the store an answer is of: its window, and what else it was narrowed to."""
    texts = {name: " ".join(value) if isinstance(value, list) else str(value) for name, value in answer.params.items()}
    return ", ".join(
        f"{name} {text[:_TO_THE_SECOND]} UTC" if name in _WINDOW else f"{name} {text}"
        for name, text in texts.items()
        if answer.params[name]
    )


def _show(answer: Any, as_json: bool, known: frozenset[str] = frozenset(), scope: str = "") -> None:
    if as_json:
        output.json_object(answer.to_json())
        return
    left_out = _LEFT_OUT.get(answer.name, set()) | known
    kept = [index for index, column in enumerate(answer.columns) if column.name not in left_out]
    output.table(
        answer.title,
        [(answer.columns[index].name, answer.columns[index].unit) for index in kept],
        [[row[index] for index in kept] for row in answer.rows],
        scope=scope,
    )
