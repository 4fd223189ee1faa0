"""`sidetone demo` and `sidetone up`: everything on this machine."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sidetone import process
from sidetone.cli import output
from sidetone.cli.options import DataDir, Json
from sidetone.settings import Settings, load

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of what was stopped before it had anything to tell."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (demo, up):
        app.command(rich_help_panel="Start here")(command)


def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="No dashboard, any free ports: only the account at the end.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the calls; without it, until Ctrl-C.", min=1, show_default=False)
    ] = None,
    calls: Annotated[int, typer.Option(help="Calls at once, spread over the regions.", min=1, max=60)] = 9,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 1,
    speech: Annotated[
        list[Path] | None, typer.Option(help="A recording for the callers to say; may be repeated.", exists=True)
    ] = None,
    log: Annotated[
        Literal["sqlite", "kafka"] | None,
        typer.Option(
            help="Event log [SIDETONE_LOG, default sqlite]; for kafka a broker is started unless "
            "SIDETONE_KAFKA_BOOTSTRAP names one.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the demo's log and store live; what an earlier demo left there is deleted first. `demo` in "
            "the data dir if left out.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Watch real calls from three regions on a dashboard.

    Starts everything on this machine, and callers that talk to a scripted agent over WebRTC and impaired networks.
    At the end, an account: what was emitted and what is stored, what the callers heard and what was measured. Exit
    status 0 only if nothing was lost, 130 if it was stopped before the first call. What was recorded stays until the
    next demo.

    Example: `sidetone demo --headless --seconds 30 --json`
    """
    from sidetone.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - `--help` must not load it
    from sidetone.stack.ports import with_free_ports  # noqa: PLC0415

    settings = load(log=log)
    settings = settings.model_copy(
        update={"data_dir": data_dir.expanduser().absolute() if data_dir else settings.data_dir / "demo"}
    )
    if headless:
        settings = with_free_ports(settings)
    options = DemoOptions(calls=calls, seconds=seconds, seed=seed, speech=speech or [], dashboard=not headless)

    def on_up() -> None:
        if options.dashboard:
            welcome(settings)

    async def run() -> dict[str, Any] | None:
        with output.progressing(f"{calls} calls", seconds) as report:
            return await run_demo(settings, options, process.async_stop_event(), report, on_up)

    result = asyncio.run(run())
    if result is None:
        output.note("stopped before the first call")
        raise typer.Exit(INTERRUPTED)
    if json:
        output.json_object(result)
    else:
        _show(result)
    if not result["ok"]:
        raise typer.Exit(1)


def up(
    data_dir: DataDir = None,
    dashboard: Annotated[bool, typer.Option(help="Run the dashboard and the API too.")] = True,
) -> None:
    """Run everything on this machine until Ctrl-C: edges, transceiver, log, collector, store, API, dashboard."""
    from sidetone.stack.supervisor import Stack  # noqa: PLC0415 - `--help` must not load it

    settings = load(data_dir=data_dir)

    async def run() -> None:
        stop = process.async_stop_event()
        async with Stack(settings, dashboard=dashboard, report=output.note) as stack:
            await process.until(stop, stack.start())
            if not stop.is_set():
                welcome(settings, dashboard=dashboard)
            await stop.wait()
            output.note("stopping")

    asyncio.run(run())


def welcome(settings: Settings, *, dashboard: bool = True) -> None:
    """Say where what runs is found; without `dashboard` neither that nor the API does."""
    places = {"Talk to it": f"http://{settings.signalling_host}:{settings.signalling_port}/"}
    if dashboard:
        places = {"Dashboard": f"http://{settings.dashboard_host}:{settings.dashboard_port}/"} | places
        places["API"] = f"http://{settings.api_host}:{settings.api_port}/v1/questions"
    lines = "".join(f"  [bold]{name:<10}[/] {url}\n" for name, url in places.items())
    output.stderr.print(
        f"\n{lines}  Facts, tables and logs are in {settings.data_dir}. Ctrl-C ends everything.\n",
        highlight=False,
        soft_wrap=True,  # a long path must not break the lines that programs wait for
    )


def _show(result: dict[str, Any]) -> None:
    output.table(
        f"{result['calls']} calls, {result['turns']} turns",
        [
            ("region", ""),
            ("calls", ""),
            ("turns", ""),
            ("response latency p50", "ms"),
            ("p95", "ms"),
            ("n", "turns"),
            ("packet loss", "ratio"),
        ],
        [
            (
                name,
                region["calls"],
                region["turns"],
                region["response_latency_ms"]["p50"],
                region["response_latency_ms"]["p95"],
                region["response_latency_ms"]["n"],
                region["packet_loss"],
            )
            for name, region in result["regions"].items()
        ],
    )
    output.table(
        "Facts: emitted by the sources, stored, and distinct in the store",
        [("type", ""), ("emitted", "rows"), ("stored", "rows"), ("distinct", "rows"), ("shed", "rows")],
        [
            (name, fact["emitted"], fact["stored"], fact["distinct"], sum(fact["shed"].values()))
            for name, fact in result["facts"].items()
        ],
    )
    if result["ok"]:
        output.note("nothing was lost")
    else:
        output.note("NOT everything is accounted for:")
        for shortfall in result["shortfalls"]:
            output.note(f"  {shortfall}")
