"""`sidetone dlq`: what the collector refused, and having it tried again. `sidetone rebuild`: tables from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sidetone.cli import output
from sidetone.cli.options import DataDir, Json
from sidetone.settings import load

if TYPE_CHECKING:
    from collector import Letter
    from eventlog.port import EventLog

_T = TypeVar("_T")

Id = Annotated[str, typer.Argument(help="topic:partition:offset, as `list` prints it.")]


class PipelineError(Exception):
    """A command on the pipeline cannot do what it was asked for. The message says what, where and what to do."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    dlq = typer.Typer(help="Messages that the collector refused.", no_args_is_help=True)
    dlq.command("list")(list_letters)
    dlq.command("show")(show)
    dlq.command("replay")(replay)
    app.add_typer(dlq, name="dlq", rich_help_panel="Pipeline")
    app.command(rich_help_panel="Pipeline")(rebuild)


def list_letters(data_dir: DataDir = None, json: Json = False) -> None:
    """List the messages that were refused, and why, oldest first."""
    from collector import letters  # noqa: PLC0415 - `--help` must not load it

    found = _with_log(data_dir, letters)
    if json:
        output.json_object({"letters": [_plain(letter) for letter in found]})
        return
    output.table(
        f"{len(found)} dead letters",
        [("id", ""), ("reason", ""), ("size", "bytes"), ("refused", "UTC"), ("replayed to", "offset")],
        [(one.id, one.reason, one.value_bytes, _time(one.refused_ns), one.replayed_to) for one in found],
    )


def show(
    letter_id: Id,
    raw: Annotated[
        Path | None, typer.Option(help="Write the message's bytes into this file.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show one refused message: where it came from, its headers, and why it was refused."""
    from collector import original  # noqa: PLC0415

    async def look(log: EventLog) -> tuple[Letter, bytes]:
        letter = await _find(log, letter_id)
        return letter, (await original(log, letter)).value if raw else b""

    letter, value = _with_log(data_dir, look)
    if raw is not None:
        raw.write_bytes(value)
        output.note(f"{len(value)} bytes written to {raw}")
    if json:
        output.json_object(_plain(letter))
    else:
        output.table(letter.id, [("field", ""), ("value", "")], list(_plain(letter).items()))


def replay(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(help="topic:partition:offset, as `list` prints it; several may be given.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter that was not replayed yet.")] = False,
    force: Annotated[bool, typer.Option(help="Also what would be refused again.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Append refused messages again where they came from, once the cause is gone, and mark them.

    What would be refused again is left alone. A message whose facts are stored already is dropped by the collector.
    """
    from collector import ReplayError, letters  # noqa: PLC0415
    from collector import replay as append_again  # noqa: PLC0415

    if bool(letter_ids) == every:
        raise PipelineError("name the letters to replay (`sidetone dlq list` has their ids), or give --all")

    async def work(log: EventLog) -> dict[str, Any]:
        if every:
            chosen = [letter for letter in await letters(log) if letter.replayed_to is None]
        else:
            chosen = [await _find(log, one) for one in letter_ids or []]
        replayed, left = {}, {}
        for letter in chosen:
            try:
                replayed[letter.id] = await append_again(log, letter, force=force)
            except ReplayError as error:
                left[letter.id] = str(error)
        return {"replayed": replayed, "left": left}

    result = _with_log(data_dir, work)
    if json:
        output.json_object(result)
    else:
        for one, offset in result["replayed"].items():
            output.note(f"{one} stands at offset {offset} now")
        for why in result["left"].values():
            output.complain(why)
    if result["left"] or (not result["replayed"] and letter_ids):
        raise typer.Exit(1)


def rebuild(
    tables: Annotated[
        list[str],
        typer.Argument(
            help="Tables to empty and load from the log once more: audio, clients, emitters, frames, inputs, legs, "
            "packets, sessions, turns, or the rollups packets_1s, packets_1m, region_1s, region_1m."
        ),
    ],
    partial: Annotated[
        bool, typer.Option(help="Also if the log no longer has everything; what is gone from it is lost.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Empty tables or rollups and load them from the log, while new facts keep arriving.

    A raw table is rebuilt with its rollups. The collectors pause for a moment and then go on; a rebuild that was cut
    off is finished by the same command.

    Example: `sidetone rebuild region_1s`
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError  # noqa: PLC0415 - `--help` must not load it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from analytics import reason  # noqa: PLC0415
    from collector import CollectorConfig, RebuildError, store_clients  # noqa: PLC0415
    from collector import rebuild as load_again  # noqa: PLC0415
    from sidetone.roles import store_settings  # noqa: PLC0415

    settings = load(data_dir=data_dir)
    host, port, user, password = settings.store()
    config = CollectorConfig(store=store_settings(settings))
    clients = store_clients(host, port, timeout_s=config.insert_timeout_s, user=user, password=password)
    output.say_errors_once()
    columns = (TextColumn("rebuilding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal) as progress:
        task = progress.add_task("messages", total=None)
        try:
            result = _with_log(
                data_dir,
                lambda log: load_again(
                    log,
                    clients,
                    tables,
                    config,
                    partial=partial,
                    report=lambda done, total: progress.update(task, completed=done, total=total),
                ),
            )
        except RebuildError as error:
            raise PipelineError(str(error)) from None
        except (ClickHouseError, OSError) as error:
            raise PipelineError(
                f"the store at {host}:{port} does not answer ({reason(error)}); start it with `sidetone up` or "
                "`sidetone store`, or set SIDETONE_STORE_HOST and SIDETONE_STORE_PORT to where it is"
            ) from None
    if json:
        output.json_object({"tables": list(result.tables), "messages": result.messages, "resumed": result.resumed})
    else:
        output.note(f"{', '.join(result.tables)}: rebuilt from {result.messages} messages")


async def _find(log: EventLog, letter_id: str) -> Letter:
    from collector import letters  # noqa: PLC0415

    for letter in await letters(log):
        if letter.id == letter_id:
            return letter
    raise PipelineError(f"there is no dead letter {letter_id!r}; `sidetone dlq list` has their ids")


def _plain(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "value_bytes": letter.value_bytes,
        "value_kept": letter.value_kept,
        "appended": _time(letter.appended_ns),
        "refused": _time(letter.refused_ns),
        "replayed_to": letter.replayed_to,
        "headers": dict(letter.headers),
    }


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")


def _with_log(data_dir: Path | None, work: Callable[[EventLog], Awaitable[_T]]) -> _T:
    from eventlog.port import EventLogError  # noqa: PLC0415
    from sidetone.roles import log_opener  # noqa: PLC0415

    settings = load(data_dir=data_dir)
    if settings.log == "sqlite" and not settings.log_file.exists():
        raise PipelineError(
            f"there is no event log {settings.log_file}; name the data dir of what writes one with --data-dir "
            f"(the demo's: {settings.data_dir / 'demo'})"
        )
    open_log = log_opener(settings)

    async def run() -> _T:
        log = open_log()
        try:
            return await work(log)
        finally:
            await log.aclose()

    try:
        return asyncio.run(run())
    except EventLogError as error:
        raise PipelineError(str(error)) from None
