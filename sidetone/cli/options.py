"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the embedded log and store, keys and logs live [SIDETONE_DATA_DIR].", show_default=False),
]
StorePort = Annotated[
    int | None, typer.Option(help="Port of ClickHouse's HTTP interface [SIDETONE_STORE_PORT].", show_default=False)
]
StoreHost = Annotated[str | None, typer.Option(help="Address of ClickHouse [SIDETONE_STORE_HOST].", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
