"""`sidetone doctor`: look at this machine and installation, and say what is wrong and how to mend it."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from sidetone import process
from sidetone.cli import output
from sidetone.cli.options import DataDir, Json
from sidetone.settings import Settings, SettingsError, load

_MINIMUM_FREE_BYTES = 2 * 2**30
_OTHER_VARIABLES = {
    *("SIDETONE_OPENAI_API_KEY", process.LIFELINE_ENV),
    # compose.yaml's own
    *(f"SIDETONE_{name}" for name in ("CLOCK", "PUBLIC_HOST", "PUBLISH", "UI_PORT", "VERSION")),
    *("SIDETONE_READER_PASSWORD", "SIDETONE_WRITER_PASSWORD"),
}
"""Variables of ours that are no settings."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `problem` stops Sidetone; `warning` stops a part that not everyone needs."""

    check: str
    state: Literal["ok", "warning", "problem"]
    detail: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Answers")(doctor)


def doctor(
    data_dir: DataDir = None,
    json: Json = False,
    ports: Annotated[bool, typer.Option(help="Look whether the ports are free; not while a stack runs.")] = True,
) -> None:
    """Look for what would keep Sidetone from working here. Exit status 1 if anything would."""
    settings = load(data_dir=data_dir)
    findings = list(examine(settings, ports=ports))
    if json:
        output.json_object({"findings": [asdict(finding) for finding in findings]})
    else:
        styles = {"ok": "green", "warning": "yellow", "problem": "bold red"}
        for finding in findings:
            mark = f"[{styles[finding.state]}]{finding.state:<7}[/]"
            line = f"{mark} {finding.check}: {escape(finding.detail)}"
            output.stdout.print(line, highlight=False, soft_wrap=True)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings, *, ports: bool) -> Iterator[Finding]:
    """Run every check."""
    yield _checked("python", _python)
    yield _checked("settings", _environment, state="warning")
    yield _checked("data dir", lambda: _data_dir(settings))
    yield _checked("log", lambda: _log(settings))
    yield _checked("opus", _opus)
    yield _checked("kernel receive times", _receive_times, state="warning")
    yield _checked("browser", _browser, state="warning")
    yield _checked("speech synthesis", _speech, state="warning")
    chosen = settings.vad == "silero" or settings.endpointing == "smart-turn"
    yield _checked("neural detectors", _neural, state="problem" if chosen else "warning")
    if ports:
        yield _checked("ports", lambda: _ports(settings))


def _checked(name: str, check: Callable[[], str], state: Literal["warning", "problem"] = "problem") -> Finding:
    try:
        return Finding(name, "ok", check())
    except (SettingsError, OSError, sqlite3.Error) as error:
        return Finding(name, state, str(error))


def _python() -> str:
    parts = ", ".join(f"{name} {version(name)}" for name in ("chdb", "aiortc", "streamlit"))
    return f"{sys.version.split()[0]} with {parts}"


def _environment() -> str:
    """A misspelt variable is ignored like any that is another program's; only here it is told."""
    ours = {f"SIDETONE_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    given = {name for name in os.environ if name.startswith("SIDETONE_")}
    if strangers := sorted(given - ours):
        known = [close[0] for name in strangers if (close := get_close_matches(name, ours, n=1, cutoff=0.85))]
        raise SettingsError(
            f"{', '.join(strangers)}: no setting is called that, and it changes nothing"
            + (f"; perhaps {', '.join(known)} is meant" if known else "")
        )
    file = "a" if Path("sidetone.toml").exists() else "no"
    return f"{', '.join(sorted(given)) or 'no SIDETONE_… variable'}; {file} sidetone.toml here"


def _data_dir(settings: Settings) -> str:
    folder = settings.make_data_dir()
    free = shutil.disk_usage(folder).free
    if free < _MINIMUM_FREE_BYTES:
        raise SettingsError(f"{folder} has {free / 2**30:.1f} GiB free; give it 2 GiB, or name another with --data-dir")
    return f"{folder} can be written, {free / 2**30:.0f} GiB free"


def _log(settings: Settings) -> str:
    if not settings.log_file.exists():
        return f"{settings.log_file} is not there yet; the first start makes it"
    connection = sqlite3.connect(f"file:{settings.log_file}?mode=ro", uri=True)
    try:
        verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    finally:
        connection.close()
    if verdict != "ok":
        raise SettingsError(
            f"{settings.log_file} is damaged ({verdict}); move it away to start with an empty log: what the store "
            "already has stays, what only the log had is lost"
        )
    return f"{settings.log_file} is sound"


def _opus() -> str:
    from relay import opus  # noqa: PLC0415 - loads the library

    try:
        return opus.version()
    except opus.OpusUnavailableError as error:
        raise SettingsError(str(error)) from None


def _receive_times() -> str:
    if not hasattr(socket, "SO_TIMESTAMPNS") and sys.platform != "linux":
        raise SettingsError("this platform gives no kernel receive times: packets are stamped when they are read")
    return "packets are stamped by the kernel"


def _neural() -> str:
    from relay.predictors import weights  # noqa: PLC0415 - loads 20 MB

    try:
        for name in (weights.SMART_TURN, weights.SILERO):
            weights.session(name)
    except weights.WeightsError as error:
        raise SettingsError(
            f"SIDETONE_ENDPOINTING=smart-turn and SIDETONE_VAD=silero cannot be used: {error}"
        ) from None
    return "smart-turn and Silero can be used"


def _browser() -> str:
    for name in _BROWSERS:
        if path := shutil.which(name):
            return path
    raise SettingsError("no Chromium here: the browser tests need one (apt-get install chromium)")


def _speech() -> str:
    if path := shutil.which("espeak-ng"):
        return path
    raise SettingsError(
        "no espeak-ng here: callers' scripts cannot say `text`, only clips and recordings (apt-get install espeak-ng)"
    )


def _ports(settings: Settings) -> str:
    wanted = [
        (kind, name, host, port)
        for kind, name, host, port in (
            (socket.SOCK_STREAM, "store_port", settings.store_host, settings.store_port),
            (socket.SOCK_STREAM, "signalling_port", settings.signalling_host, settings.signalling_port),
            (socket.SOCK_STREAM, "api_port", settings.api_host, settings.api_port),
            (socket.SOCK_STREAM, "dashboard_port", settings.dashboard_host, settings.dashboard_port),
            (socket.SOCK_STREAM, "collector_port", "127.0.0.1", settings.collector_port),
            *(
                (socket.SOCK_DGRAM, f"edge {edge.name}", edge.bind_host or edge.host, edge.port)
                for edge in settings.edges
            ),
            *(
                (socket.SOCK_DGRAM, f"transceiver {one.code}", one.bind_host or one.host, one.port)
                for one in settings.transceivers
            ),
        )
        if port
    ]
    busy = [f"{port} ({name})" for kind, name, host, port in wanted if not _is_free(kind, host, port)]
    if busy:
        raise SettingsError(f"in use: {', '.join(busy)}; stop what uses them, or set the SIDETONE_… of that name")
    return f"all {len(wanted)} are free"


def _is_free(kind: int, host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True
