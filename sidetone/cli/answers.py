"""Commands that ask the store: `sessions`, `session ID`, `query NAME`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from sidetone.cli import output
from sidetone.cli.options import Json, StoreHost, StorePort
from sidetone.settings import SettingsError, load

_PANEL = "Answers"
_SESSION_PARTS = ("session", "session_turns", "session_waterfall")

_LEFT_OUT = {
    "sessions": {"ended_ns", "client", "close_reason", "latency_n", "latency_max_ms"},
    "session_turns": {"observed_ns", "mono_ns", "inputs", "probability", "threshold", "text"},
    "session_waterfall": {"user_speech_stopped_ns", "unmeasured_ms"},
}
"""Columns that tables for people do without; `--json` has them all."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (sessions, session, query):
        app.command(rich_help_panel=_PANEL)(command)


def sessions(
    region: Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1, max=10_000)] = 20,
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """List recorded calls, newest first."""
    with _asking(store_host, store_port) as ask:
        _show(ask("sessions", {"region": region or [], "limit": limit}), json)


def session(
    session_id: Annotated[str, typer.Argument(help="A session id, as `sidetone sessions` lists them.")],
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """Show one call: what it was, its turns, and where each answer's time went."""
    with _asking(store_host, store_port) as ask:
        answers = [ask(name, {"session": session_id}) for name in _SESSION_PARTS]
        if not answers[0].rows:
            raise SettingsError(f"no session {session_id} is in the store; `sidetone sessions` lists those that are")
        if json:
            output.json_object({answer.name: answer.to_json() for answer in answers})
            return
        for answer in answers:
            _show(answer, as_json=False)


def query(
    name: Annotated[str | None, typer.Argument(help="Name of a question; none lists them all.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE; may be repeated.")] = None,
    store_host: StoreHost = None,
    store_port: StorePort = None,
    json: Json = False,
) -> None:
    """Ask one of the catalogued questions.

    Example: `sidetone query overview -p region=eu-west`
    """
    if name is None:
        _list_questions(json)
        return
    with _asking(store_host, store_port) as ask:
        _show(ask(name, dict(_pair(text) for text in param or [])), json)


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
    from analytics import QuestionError, connect, run  # noqa: PLC0415 - `--help` must not load it

    settings = load(store_host=store_host, store_port=store_port)
    # What these would say is said once, in the error.
    for library in ("clickhouse_connect", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        client = connect(*settings.store())
        yield lambda name, params: run(client, name, params)
    except QuestionError as error:
        raise SettingsError(str(error)) from None


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        output.json_object(answer.to_json())
        return
    left_out = _LEFT_OUT.get(answer.name, set())
    kept = [index for index, column in enumerate(answer.columns) if column.name not in left_out]
    output.table(
        answer.title,
        [(answer.columns[index].name, answer.columns[index].unit) for index in kept],
        [[row[index] for index in kept] for row in answer.rows],
    )
