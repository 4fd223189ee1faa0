"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidetone.settings import Settings


def of_setting(name: str, what: str) -> str:
    """Return the help of a flag that stands for a setting: what it is, its variable and its default."""
    return f"{what} [SIDETONE_{name.upper()}, default {Settings.model_fields[name].default}]."


DataDir = Annotated[
    Path | None,
    typer.Option(
        help=of_setting("data_dir", "Where the embedded log and store, keys and logs live"), show_default=False
    ),
]
StorePort = Annotated[
    int | None, typer.Option(help=of_setting("store_port", "Port of ClickHouse's HTTP interface"), show_default=False)
]
StoreHost = Annotated[
    str | None, typer.Option(help=of_setting("store_host", "Address of ClickHouse"), show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
