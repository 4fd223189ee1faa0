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

_WIDEST: Final = 1_000
_TIME: Final = "ns since epoch"
_OBVIOUS: Final = {"text", "count", "number", "flag", "uuid", "list", "names and values", _TIME}
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


def table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, scope: str = "") -> None:
    """Print rows as a table, never narrower than its content: a long line can be scrolled, a folded one not read.

    One row, and on a terminal rows that are wider than it, are shown a column a line, as far as that fits.

    Args:
        title: what the rows are.
        columns: their names and units.
        rows: a value for each column.
        scope: what part of all that is known they are of; not said if empty.

    """
    shown = [[cell(value, unit) for value, (_, unit) in zip(row, columns, strict=True)] for row in rows]
    stdout.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
    if scope:
        stdout.print(f"[dim]{escape(scope)}[/]", highlight=False, soft_wrap=True)
    names = [name for name, _ in columns]
    units = ["" if unit in _OBVIOUS or name.endswith(f"_{unit}") else unit for name, unit in columns]
    if not shown:
        names, units, shown = ["nothing"], [""], [[""]]
    wide, narrow = _a_row_a_line(names, units, shown), _a_column_a_line(names, units, shown)
    needed = _width(wide)
    if len(shown) == 1 or (stdout.is_terminal and _width(narrow) <= stdout.width < needed):
        stdout.print(narrow)
    else:
        Console(width=max(needed, stdout.width)).print(wide, crop=False)


def _a_row_a_line(names: Sequence[str], units: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    printed = Table(header_style="bold", box=box.SIMPLE_HEAD)
    for name, unit in zip(names, units, strict=True):
        printed.add_column(f"{name}\n[dim]{unit}[/]" if any(units) else name, no_wrap=True)
    for row in rows:
        printed.add_row(*row)
    return printed


def _a_column_a_line(names: Sequence[str], units: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    printed = Table(box=box.SIMPLE_HEAD, show_header=False)
    printed.add_column(style="bold", no_wrap=True)
    for _ in rows:
        printed.add_column(overflow="fold")
    for name, unit, values in zip(names, units, zip(*rows, strict=True), strict=True):
        printed.add_row(
            name, *(f"{value} [dim]{unit}[/]" if unit and value not in ("", cell(None)) else value for value in values)
        )
    return printed


def _width(printed: Table) -> int:
    return Measurement.get(stdout, stdout.options.update(width=_WIDEST), printed).maximum


def cell(value: object, unit: str = "") -> str:
    """Return a value as a person reads it; unknown is an en dash, never zero."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int) and unit == _TIME:
        moment = datetime.fromtimestamp(value / 1e9, tz=UTC)
        return moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    if unit == "flag":
        return "yes" if value else "no"
    if isinstance(value, float):  # a ratio that is small is not nothing
        return f"{value:.3g}" if unit == "ratio" else f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, Mapping):
        text = "\n".join(f"{key}: {item}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(str(item) for item in value)
    else:
        text = str(value)
    return escape(text)


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
