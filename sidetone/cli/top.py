"""`sidetone top`: what edges and transceivers are doing, each second."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sidetone.cli import output
from sidetone.cli.options import DataDir, Json
from sidetone.endpoints import Endpoint, running
from sidetone.live import Reading, rates, read
from sidetone.settings import Settings, SettingsError, load

_REASONS = 3
"""Reasons of drops that are told, the commonest first."""
_NAMES = 2
"""Columns that name a process."""

_EDGE_HEADS = ("region", "edge", "calls", "up/s", "down/s", "voice/s", "loss", "drops/s", "shed", "overflow")
_TRANSCEIVER_HEADS = ("region", "transceiver", "calls", "voice/s", "drops/s", "overflow", "underruns")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Answers")(top)


def top(
    url: Annotated[
        list[str] | None,
        typer.Option(help="An edge's metrics elsewhere, http://host:port; may be repeated.", show_default=False),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two samples.", min=0.1, max=60)] = 1.0,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Watch calls, packets, loss and drops per edge, until Ctrl-C.

    Shows every edge and transceiver that runs on this machine with this data dir, or as its demo.

    Between two samples: up/s and down/s are datagrams forwarded, voice/s voice packets seen both ways, loss those
    missed of them, drops/s datagrams refused. Since the start: shed are facts given up, overflow datagrams that found
    the kernel's buffer full, underruns ticks without voice; below, why datagrams were dropped.
    """
    settings = load(data_dir=data_dir)
    token = settings.token.get_secret_value() if settings.token else None
    before = _readings(settings, url or [], token)
    if not before:
        raise SettingsError(
            f"no edge and no transceiver runs with the data dir {settings.data_dir}; start `sidetone up` or "
            "`sidetone demo`, name their --data-dir, or an edge's metrics with --url"
        )
    if json or once:
        time.sleep(every)
        rows = _rows(before, _readings(settings, url or [], token))
        output.json_object({"processes": rows}) if json else output.stdout.print(_tables(rows))
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever was started in the background ignores it
    with contextlib.suppress(KeyboardInterrupt), Live(console=output.stdout, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            after = _readings(settings, url or [], token)
            live.update(_tables(_rows(before, after)), refresh=True)
            before = after


def _readings(settings: Settings, urls: list[str], token: str | None) -> list[Reading]:
    # Roles come and go while this runs, so they are looked for each time.
    endpoints = running([settings.data_dir, settings.data_dir / "demo"])
    endpoints += [Endpoint("edge", urlsplit(one).netloc or one, "", one.rstrip("/"), 0) for one in urls]
    return [read(endpoint, token) for endpoint in endpoints]


def _rows(before: list[Reading], after: list[Reading]) -> list[dict[str, Any]]:
    earlier = {reading.endpoint: reading for reading in before}
    return [rates(earlier.get(reading.endpoint, reading), reading) for reading in after]


def _tables(rows: list[dict[str, Any]]) -> RenderableType:
    if not rows:
        return "nothing runs any more"
    edges = [row for row in rows if row["role"] == "edge"]
    transceivers = [row for row in rows if row["role"] != "edge"]
    tables = []
    if edges:
        tables.append(_table(_EDGE_HEADS, edges, _edge_cells))
    if transceivers:
        tables.append(_table(_TRANSCEIVER_HEADS, transceivers, _transceiver_cells))
    return Group(*tables)


def _table(heads: tuple[str, ...], rows: list[dict[str, Any]], cells: Any) -> RenderableType:
    # Narrow enough for a terminal of 80 columns: what takes many letters stands below it.
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=0)
    for n, head in enumerate(heads):
        table.add_column(head, justify="left" if n < _NAMES else "right", no_wrap=True)
    below = []
    for row in rows:
        if row["trouble"]:
            table.add_row(row["region"], row["name"])
            below.append(f"[red]{escape(row['name'])}: {escape(row['trouble'])}[/]")
        else:
            table.add_row(row["region"], row["name"], *cells(row))
            if any(row["dropped"].values()):
                below.append(f"dropped at {escape(row['name'])}: {escape(_reasons(row['dropped']))}")
    return Group(table, *below)


def _edge_cells(row: dict[str, Any]) -> list[str]:
    loss = "\N{EN DASH}" if row["loss"] is None else f"{100 * row['loss']:.1f} %"
    rates_of = [_rate(row[f"{name}_per_s"]) for name in ("up", "down", "voice")]
    counts = [f"{row[name]:,}" for name in ("shed", "overflowed")]
    return [f"{row['calls']:,}", *rates_of, loss, _rate(row["dropped_per_s"]), *counts]


def _transceiver_cells(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[name]:,}" for name in ("overflowed", "underruns")]
    return [f"{row['calls']:,}", _rate(row["voice_per_s"]), _rate(row["dropped_per_s"]), *counts]


def _rate(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,.0f}"


def _reasons(dropped: dict[str, int]) -> str:
    first = sorted(dropped.items(), key=lambda item: -item[1])[:_REASONS]
    return ", ".join(f"{reason} {count:,}" for reason, count in first if count)
