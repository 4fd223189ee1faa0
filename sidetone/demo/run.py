"""Runs the demo: stack, callers, and at the end the account."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidetone import process
from sidetone.demo.callers import Callers, CallersError, Calls
from sidetone.settings import Settings, SettingsError
from sidetone.stack.supervisor import Stack

NETWORKS = ("office-wifi", "lte-edge", "hotel-wifi")
"""Networks of the demo's regions, in the settings' order of regions: one good, one far, one bad."""

_REPORT = "sidetone.demo.report"
_MARKER = ".sidetone-demo"
_CALLS_NEED = 0
"""`starts` of the parts that run before the first call; what shows the facts starts beside the calls."""
_LOAD_S = 30.0
_STORE_STOPS_AFTER = 3
"""`stops` of the last part before the store (see `stack.plan`)."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo does.

    Attributes:
        calls: how many at once, spread over the regions.
        seconds: length of the calls; None until stopped.
        seed: of everything random.
        speech: recordings to say in place of the shipped questions.
        dashboard: whether to run the dashboard (and the API).

    """

    calls: int = 9
    seconds: float | None = None
    seed: int = 1
    speech: Sequence[Path] = ()
    dashboard: bool = True


async def run_demo(
    settings: Settings,
    options: DemoOptions,
    stop: asyncio.Event,
    report: Callable[[str], None],
    on_up: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Run the demo to its end, or until `stop`, and return its account (see `report.account` and `report.conclude`).

    None if it was stopped before the first call: there is nothing to give account of.

    Raises:
        SettingsError: the data dir holds something that is not a demo's, or the Kafka that was given cannot be used.
        StackError: a part did not start.

    """
    started = time.monotonic()
    with fresh_data_dir(settings):
        return await _run_fresh(settings, options, stop, report, on_up, started)


async def _run_fresh(
    settings: Settings,
    options: DemoOptions,
    stop: asyncio.Event,
    report: Callable[[str], None],
    on_up: Callable[[], None],
    started: float,
) -> dict[str, Any] | None:
    # So that anyone may try beside it what the platform makes of an agent that errs (`sidetone call --list`).
    settings = settings.model_copy(update={"behaviours": True})
    if settings.log != "kafka":
        return await _run(settings, options, stop, report, on_up, started)
    from sidetone.demo.broker import with_broker  # noqa: PLC0415 - heavy, and of no use with the log in a file

    async with with_broker(settings, stop, report) as settings_with_broker:
        return await _run(settings_with_broker, options, stop, report, on_up, started)


async def _run(
    settings: Settings,
    options: DemoOptions,
    stop: asyncio.Event,
    report: Callable[[str], None],
    on_up: Callable[[], None],
    started: float,
) -> dict[str, Any] | None:
    stack = Stack(settings, dashboard=options.dashboard, report=report)
    async with stack:
        await process.until(stop, stack.start(up_to=_CALLS_NEED))
        if stop.is_set():
            return None
        calls = Calls(
            url=f"http://{settings.signalling_host}:{settings.signalling_port}",
            routes=[(region, NETWORKS[i % len(NETWORKS)]) for i, region in enumerate(_regions(settings))],
            calls=options.calls,
            seconds=options.seconds,
            seed=options.seed,
            speech=options.speech,
        )
        async with (
            Callers(calls, settings.as_environment(), report) as callers,
            _first_turn(settings, started, report) as first_turn,
        ):
            await process.until(stop, stack.start())
            if not stop.is_set():
                on_up()
            # Heavy, and needed in a hurry at the end: now, beside the calls.
            await process.until(stop, asyncio.to_thread(importlib.import_module, _REPORT))
            await process.until(stop, callers.ended())
            await callers.hang_up()
            fleet = await _report_of(callers, stop)
        (settings.data_dir / "callers.json").write_text(json.dumps(fleet))
        report("calls ended; the last facts are on their way into the store")
        await stack.stop(up_to=_STORE_STOPS_AFTER)
        await _load_what_is_left(settings, report)
        result: dict[str, Any] = await importlib.import_module(_REPORT).account(settings, fleet)
        result["first_stored_turn_s"] = first_turn.seconds
        await stack.stop()
        result["deaths"] = stack.deaths
    return dict(importlib.import_module(_REPORT).conclude(result))


async def _load_what_is_left(settings: Settings, report: Callable[[str], None]) -> None:
    """Load what a collector on a busy machine was not given the time for: the account is of all that was emitted."""
    from collector import Collector, CollectorConfig, CollectorHaltedError, store_clients  # noqa: PLC0415
    from sidetone.roles import log_opener, store_settings  # noqa: PLC0415

    host, port, user, password = settings.store()
    config = CollectorConfig(store=store_settings(settings))
    clients = store_clients(host, port, timeout_s=config.insert_timeout_s, user=user, password=password)
    log = log_opener(settings)()
    try:
        async with asyncio.timeout(_LOAD_S):
            await Collector(log, clients, config).drain()
    except (TimeoutError, CollectorHaltedError) as error:
        report(f"the store has not taken all facts: {error or f'it takes longer than {_LOAD_S:.0f} s'}")
    finally:
        await log.aclose()


async def _report_of(callers: Callers, stop: asyncio.Event) -> dict[str, Any]:
    try:
        return await callers.ended()
    except CallersError:
        if not stop.is_set():
            raise
        return {"calls": []}  # stopped before the first call, when there was nothing to report yet


@contextlib.contextmanager
def fresh_data_dir(settings: Settings) -> Iterator[None]:
    """Empty the demo's data dir, which holds nothing but an earlier demo, and keep it from other demos meanwhile.

    Raises:
        SettingsError: it holds something else, or a demo that runs.

    """
    folder = settings.data_dir
    marker = folder / _MARKER
    settings.make_data_dir()
    if any(folder.iterdir()) and not marker.exists():
        raise SettingsError(f"{folder} holds something that no demo made; name another folder with --data-dir")
    with marker.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"a demo runs in {folder}; end it, or name another folder with --data-dir") from None
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != marker:
                entry.unlink()
        yield


def _regions(settings: Settings) -> list[str]:
    return list(dict.fromkeys(edge.region for edge in settings.edges))


@dataclass(slots=True)
class _FirstTurn:
    seconds: float | None = None


@contextlib.asynccontextmanager
async def _first_turn(settings: Settings, started: float, report: Callable[[str], None]) -> AsyncIterator[_FirstTurn]:
    """Watch for the first answered turn that the store can show."""
    found = _FirstTurn()

    def look() -> bool:
        import analytics  # noqa: PLC0415 - heavy, and not to delay the first call

        try:
            client = analytics.connect(settings.store_host, settings.store_port)
        except analytics.StoreUnavailableError:
            return False  # it is still starting
        try:
            return any(analytics.run(client, "answers_stored").column("answers"))
        except analytics.QuestionError:
            return False  # it has no tables yet
        finally:
            client.close()

    async def watch() -> None:
        while not await asyncio.to_thread(look):  # noqa: ASYNC110 - the store has no way to call us
            await asyncio.sleep(0.3)
        found.seconds = round(time.monotonic() - started, 2)
        report(f"first turn stored {found.seconds} s after the start")

    task = asyncio.create_task(watch())
    try:
        yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
