"""Answers for people (tables) or for programs (`--json`), progress on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

stdout = Console()
stderr = Console(stderr=True)

_FEW_ROWS: Final = 1
"""Up to this many rows an answer is shown a column a line: one thing with many properties reads better so."""

_WIDEST: Final = 1_000
_TIME: Final = "ns since epoch"
_OBVIOUS: Final = {"text", "count", "number", "uuid", "list", "names and values", _TIME}
"""Units that a person sees from the value itself."""

Column = tuple[str, str]
"""Name and unit; the unit is empty where there is none."""


def complain(message: str) -> None:
    """Say on standard error what went wrong."""
    stderr.print(f"[bold red]sidetone:[/] {escape(message)}", highlight=False, soft_wrap=True)


def say_errors_once() -> None:
    """Keep the store's client from logging what goes wrong: the command says it, in words."""
    for library in ("clickhouse_connect", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def note(message: str) -> None:
    """Say on standard error what is going on."""
    stderr.print(escape(message), highlight=False, soft_wrap=True)


def json_object(value: object) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, default=str, indent=2 if sys.stdout.isatty() else None) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table, never narrower than its content: a long line can be scrolled, a folded one not read."""
    shown = [[cell(value, unit) for value, (_, unit) in zip(row, columns, strict=True)] for row in rows]
    stdout.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    printed = Table(header_style="bold", box=box.SIMPLE_HEAD)
    units = ["" if unit in _OBVIOUS or name.endswith(f"_{unit}") else unit for name, unit in columns]
    if len(shown) <= _FEW_ROWS:
        printed.show_header = False
        printed.add_column(style="bold", no_wrap=True)
        printed.add_column(overflow="fold")
        for row in shown:
            for (name, _), unit, value in zip(columns, units, row, strict=True):
                printed.add_row(name, f"{value} [dim]{unit}[/]" if unit and value not in ("", cell(None)) else value)
        if not shown:
            printed.add_row("nothing", "")
        stdout.print(printed)
        return
    for (name, _), unit in zip(columns, units, strict=True):
        printed.add_column(f"{name}\n[dim]{unit}[/]" if any(units) else name, no_wrap=True)
    for row in shown:
        printed.add_row(*row)
    needed = Measurement.get(stdout, stdout.options.update(width=_WIDEST), printed).maximum
    Console(width=max(needed, stdout.width)).print(printed, crop=False)


def cell(value: object, unit: str = "") -> str:
    """Return a value as a person reads it; unknown is an en dash, never zero."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int) and unit == _TIME:
        moment = datetime.fromtimestamp(value / 1e9, tz=UTC)
        return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        return escape("\n".join(f"{key}: {item}" for key, item in value.items()))
    if isinstance(value, list | tuple):
        return escape(", ".join(str(item) for item in value))
    return escape(str(value))


@contextmanager
def progressing(what: str, seconds: float | None) -> Iterator[Callable[[str], None]]:
    """Give what takes progress lines: above a bar on a terminal, plainly otherwise.

    Args:
        what: what goes on, for the bar.
        seconds: how long it is to take; None if nobody knows.

    """
    if not stderr.is_terminal:
        yield note
        return
    heard = TextColumn("{task.fields[heard]} answers heard")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), heard)
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(what, total=seconds, heard=0)
        answers = 0

        def report(line: str) -> None:
            nonlocal answers
            if line.endswith(": heard"):
                answers += 1
            else:
                note(line)
            progress.update(task, heard=answers, completed=progress.tasks[0].elapsed or 0)

        yield report
