"""One command per role: `sidetone edge`, `transceiver`, `collector`, `store`, `api`, `dashboard`, `broker`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sidetone import process
from sidetone.cli.options import DataDir, StoreHost, StorePort, of_setting
from sidetone.settings import Settings, load
from sidetone.store.about import ABOUT

_PANEL = "Roles: one process each"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (edge, transceiver, collector, api, dashboard, broker):
        app.command(rich_help_panel=_PANEL)(command)
    app.command(rich_help_panel=_PANEL, help=ABOUT)(store)


def _prepared(**flags: Any) -> Settings:
    settings = load(**flags)
    process.configure_logging(settings.log_format)
    process.follow_parent()
    return settings


def edge(
    name: Annotated[str, typer.Argument(help="Which edge of SIDETONE_EDGES to be.")], data_dir: DataDir = None
) -> None:
    """Forward voice between clients and transceivers, and record every packet.

    Example: `sidetone edge eu-west-1`
    """
    from sidetone.edge_role import run_edge  # noqa: PLC0415 - `--help` must not load a role

    run_edge(_prepared(data_dir=data_dir), name)


def transceiver(
    code: Annotated[
        str | None, typer.Argument(help="Which of SIDETONE_TRANSCEIVERS to be; the first if left out.")
    ] = None,
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(help=of_setting("signalling_port", "HTTP port for signalling"))] = None,
    model: Annotated[
        str | None,
        typer.Option(help=of_setting("model", "Voice model: scripted, echo, openai_realtime or module:Class")),
    ] = None,
) -> None:
    """Hold the calls: ICE, DTLS, SRTP, turn-taking, and the bridge to the voice model.

    Its HTTP interface answers `POST /v1/realtime/calls` and `/whip`, and `/` is a page to talk on.
    """
    from sidetone.roles import run_transceiver  # noqa: PLC0415

    run_transceiver(_prepared(data_dir=data_dir, signalling_port=port, model=model), code)


def collector(data_dir: DataDir = None, store_host: StoreHost = None, store_port: StorePort = None) -> None:
    """Load facts from the log into ClickHouse, each exactly once."""
    from sidetone.roles import run_collector  # noqa: PLC0415

    run_collector(_prepared(data_dir=data_dir, store_host=store_host, store_port=store_port))


def store(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(help=of_setting("store_port", "HTTP port on loopback"))] = None,
) -> None:
    """Be ClickHouse on one machine: its engine in this process, behind its HTTP interface, on loopback."""
    from sidetone.roles import run_store  # noqa: PLC0415

    run_store(_prepared(data_dir=data_dir, store_port=port))


def api(
    store_host: StoreHost = None,
    store_port: StorePort = None,
    port: Annotated[int | None, typer.Option(help=of_setting("api_port", "HTTP port"))] = None,
) -> None:
    """Answer questions over HTTP as JSON: `GET /v1/questions/overview`."""
    from sidetone.roles import run_api  # noqa: PLC0415

    run_api(_prepared(store_host=store_host, store_port=store_port, api_port=port))


def dashboard(
    store_host: StoreHost = None,
    store_port: StorePort = None,
    port: Annotated[int | None, typer.Option(help=of_setting("dashboard_port", "HTTP port"))] = None,
) -> None:
    """Show the dashboards in a browser."""
    from sidetone.roles import run_dashboard  # noqa: PLC0415

    run_dashboard(_prepared(store_host=store_host, store_port=store_port, dashboard_port=port))


def broker(data_dir: DataDir = None) -> None:
    """Run an Apache Kafka broker on this machine, one node on loopback, to try things with.

    It needs Java, and Maven at the first start, which fetches it. Its port is that of SIDETONE_KAFKA_BOOTSTRAP.
    """
    from sidetone.roles import run_broker  # noqa: PLC0415

    run_broker(_prepared(data_dir=data_dir))
