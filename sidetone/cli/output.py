"""Answers for people (tables) or for programs (`--json`), progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

stdout = Console()
stderr = Console(stderr=True)


def complain(message: str) -> None:
    """Say on standard error what went wrong."""
    stderr.print(f"[bold red]sidetone:[/] {_escaped(message)}", highlight=False, soft_wrap=True)


def note(message: str) -> None:
    """Say on standard error what is going on."""
    stderr.print(_escaped(message), highlight=False, soft_wrap=True)


def json_object(value: object) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(value, default=str, indent=2 if sys.stdout.isatty() else None) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table; a column is `(name, unit)`, the unit empty where there is none."""
    printed = Table(title=title, title_justify="left", header_style="bold")
    for name, unit in columns:
        printed.add_column(f"{name} [dim]{unit}[/]" if unit else name, overflow="fold")
    for row in rows:
        printed.add_row(*(cell(value) for value in row))
    stdout.print(printed)


def cell(value: object) -> str:
    """Return a value as a person reads it; unknown is an en dash, never zero."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{key}={cell(item)}" for key, item in value.items())
    return _escaped(str(value))


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
