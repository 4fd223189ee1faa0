"""`sidetone call`: be one caller or many, on networks as they are out there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from sidetone import process
from sidetone.cli import output
from sidetone.cli.options import Json
from sidetone.settings import Settings, SettingsError, load

AUTO = "auto"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Start here")(call)


def call(
    script: Annotated[
        list[str] | None,
        typer.Argument(help="What the callers do: names (--list) or YAML files; several are taken in turn."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Signalling server, http://host:port; this machine's if left out.")
    ] = None,
    calls: Annotated[int, typer.Option(help="Calls at once.", min=1, max=200)] = 1,
    seconds: Annotated[float, typer.Option(help="Length of a call; 0 calls again and again until Ctrl-C.", min=0)] = 30,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Region to call, or auto for the nearest by round trip; the first of SIDETONE_EDGES if left out. "
            "With --network once per route."
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Network to be on: perfect, office-wifi, lte-good, lte-edge, hotel-wifi, starlink or 3g; office-wifi "
            "if left out."
        ),
    ] = None,
    speech: Annotated[
        list[Path] | None,
        typer.Option(help="A recording to say in place of the questions; may be repeated.", exists=True),
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 1,
    list_scripts: Annotated[bool, typer.Option("--list", help="Only list the scripts, a line each.")] = False,
    measured: Annotated[
        bool, typer.Option(help="Put what the platform measured beside what the callers heard.")
    ] = True,
    json: Json = False,
) -> None:
    """Call the agent over an impaired network, and tell what was said and heard, to the millisecond.

    Example: `sidetone call pauses --network hotel-wifi --seconds 20`
    """
    from relay.caller import EVERYDAY, FleetConfig  # noqa: PLC0415 - `--help` must not load WebRTC
    from voice.netem import PROFILES  # noqa: PLC0415

    settings = load()
    process.follow_parent()
    known = _titles(script)
    if list_scripts:
        _list(known, json=json)
        return
    networks = network or ["office-wifi"]
    for name in networks:
        if name not in PROFILES:
            raise SettingsError(f"there is no network {name!r}; there are: {', '.join(PROFILES)}")
    if url is not None and not url.startswith(("http://", "https://")):
        raise SettingsError(f"--url {url} is no address of a signalling server; write http://host:port")
    server = url or f"http://{settings.signalling_host}:{settings.signalling_port}"
    token = settings.token.get_secret_value() if settings.token else None
    regions = region or [settings.edges[0].region]
    if AUTO in regions:
        nearest = _nearest(server, token)
        regions = [nearest if name == AUTO else name for name in regions]
    if len(regions) != len(networks) and min(len(regions), len(networks)) > 1:
        raise SettingsError(f"{len(regions)} --region and {len(networks)} --network do not pair up")
    routes = [(regions[i % len(regions)], networks[i % len(networks)]) for i in range(max(len(regions), len(networks)))]
    config = FleetConfig(
        signalling_url=server,
        calls=calls,
        regions=routes,
        seed=seed,
        seconds=seconds,
        scripts=script or EVERYDAY,
        speech=speech or [],
        token=token,
    )
    process.settle_memory()
    report = asyncio.run(_called(config))
    if measured and seconds:
        _measure(settings, report)
    if json:
        output.json_object(report)
    else:
        _show(report)
    if all(one["error"] for one in report["calls"]):
        raise typer.Exit(1)


def _nearest(server: str, token: str | None) -> str:
    """Measure the way through every edge; the region of the nearest."""
    from relay.caller.regions import RegionsError, nearest  # noqa: PLC0415

    try:
        ways = asyncio.run(nearest(server, token))
    except RegionsError as error:
        raise SettingsError(str(error)) from None
    for way in ways:
        heard = "no answer" if way.rtt_ms is None else f"{way.rtt_ms:.1f} ms"
        output.note(f"edge {way.edge} in {way.region}: {heard}")
    reached = [way for way in ways if way.rtt_ms is not None]
    if not reached:
        raise SettingsError(f"no edge that {server} names answers; is one running, and its UDP port open?")
    return reached[0].region


def _titles(scripts: list[str] | None) -> dict[str, str]:
    """Read scripts, all shipped ones if none is named; their titles by name."""
    from relay.caller import ScriptError, find, script_names  # noqa: PLC0415

    try:
        return {name: find(name).title for name in scripts or script_names()}
    except ScriptError as error:
        raise SettingsError(str(error)) from None


def _list(titles: dict[str, str], *, json: bool) -> None:
    if json:
        output.json_object(titles)
    else:
        output.table("Scripts", [("script", ""), ("what for", "")], list(titles.items()))


async def _called(config: Any) -> dict[str, Any]:
    from relay.caller import FleetError, run_fleet, run_fleet_endlessly  # noqa: PLC0415
    from relay.speech import SpeechError  # noqa: PLC0415

    stop = process.async_stop_event()
    fleet = run_fleet if config.seconds else run_fleet_endlessly
    try:
        report = await fleet(
            config,
            lambda one, what: output.note(f"call {one.call} {one.region} on {one.network}: {what}"),
            stop=stop,
        )
    except (FleetError, SpeechError) as error:
        raise SettingsError(str(error)) from None
    return report.to_dict()


def _measure(settings: Settings, report: dict[str, Any]) -> None:
    """Add to each call, as `platform`, what the platform says of it, and where that is from."""
    from sidetone.cli.measured import measured  # noqa: PLC0415 - loads the store's client

    if any(one["session_id"] for one in report["calls"]):
        output.note("waiting for what the platform measured")
        output.say_errors_once()  # without a store the calls themselves tell
    for one, found in zip(report["calls"], measured(settings, report["calls"]), strict=True):
        one["platform"] = found


def _show(report: dict[str, Any]) -> None:
    rows = []
    for one in report["calls"]:
        heard = [
            (answer["heard_start_ns"] - answer["user_end_ns"]) / 1e6
            for answer in one["answers"]
            if answer["user_end_ns"] is not None
        ]
        sent = sum(stream["sent"] for stream in one["uplink"]["streams"])
        lost = sent - sum(stream["delivered"] for stream in one["uplink"]["streams"])
        platform = one.get("platform", {"source": None, "turns": [], "errors": None})
        latencies = [turn["listener_ms"] for turn in platform["turns"] if turn["listener_ms"] is not None]
        rows.append(
            (
                one["session_id"],
                one["region"],
                one["network"],
                one["script"] if one["finished"] or one["error"] else f"{one['script']}, not to its end",
                len(one["utterances"]),
                len(one["answers"]),
                sorted(heard)[len(heard) // 2] if heard else None,
                sorted(latencies)[len(latencies) // 2] if latencies else None,
                len(latencies) if platform["source"] else None,
                _found(platform["errors"]),
                ", ".join(f"{error['error']} ({error['turn']})" for error in one["expected"]),
                lost / sent if sent else None,
                one["error"],
            )
        )
    # Of a call that never was, nothing was measured.
    sources = sorted({one["platform"]["source"] for one in report["calls"] if "platform" in one and one["session_id"]})
    output.table(
        "Calls, as their callers know them" + (f"; measured: from the {', '.join(sources)}" if sources else ""),
        [
            ("session", ""),
            ("region", ""),
            ("network", ""),
            ("script", ""),
            ("said", "utterances"),
            ("heard", "answers"),
            ("median answer", "ms after the last word"),
            ("median measured", "ms"),
            ("measured", "turns"),
            ("errors found (at utterance)", ""),
            ("errors provoked (at utterance)", ""),
            ("uplink loss", "ratio"),
            ("error", ""),
        ],
        rows,
    )


def _found(errors: list[dict[str, Any]] | None) -> str | None:
    """Return the errors that were found; the user's own say so, as what scripts provoke is mostly the agent's."""
    if errors is None:
        return None
    return ", ".join(f"{one['kind']} ({one['turn']}{', of the user' * (one['side'] == 'user')})" for one in errors)
