"""Many callers at once, in one event loop, each on its own impaired network."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from relay.caller.catalogue import find
from relay.caller.client import Call, CallConfig, CallError
from relay.caller.network import NetworkError
from relay.caller.phrasebook import Phrasebook
from relay.caller.records import Answer, DirectionInjected, Received, Utterance
from relay.caller.script import Expected, Script, ScriptError
from relay.speech import load_wav
from voice.netem import PROFILES

SIGNALLING_S: Final = 10.0
"""How long the signalling server may take to answer an offer."""

ENDLESS_CALL_S: Final = 60.0
"""Length of each call of a fleet that calls again and again."""

REDIAL_S: Final = 1.0
"""Between two calls of one caller."""

REMEMBERED: Final = 1_000
"""Calls kept in the report of an endless fleet."""

_log = logging.getLogger(__name__)


class FleetError(Exception):
    """A fleet that cannot be run; the message says what to change."""


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """What to call, how often, and over which networks.

    Attributes:
        signalling_url: base URL of the signalling server, such as `http://127.0.0.1:8080`.
        calls: number of simultaneous calls; call i takes `regions[i % len(regions)]`.
        regions: pairs of region and network profile (a name in `voice.netem.PROFILES`).
        seed: everything random in the fleet follows from it.
        seconds: length of each call, from its connection.
        scripts: names of shipped scripts or paths of YAML files, dealt out to the calls of each region in turn.
        speech: recordings that the callers say in place of the shipped questions.
        stagger_s: time between two calls' starts, so that handshakes do not starve voice of CPU.
        token: bearer token for the signalling server, if it asks for one.

    """

    signalling_url: str
    calls: int
    regions: Sequence[tuple[str, str]]
    seed: int = 1
    seconds: float = 30.0
    scripts: Sequence[str] = ("simple",)
    speech: Sequence[Path] = ()
    stagger_s: float = 0.1
    token: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class CallReport:
    """One call as its caller knows it.

    Attributes:
        call: number of the call in the fleet, from 0.
        region: region called.
        network: name of the network profile.
        script: name of the script.
        session_id: the platform's id of the session; None if the call was never answered.
        expected: errors that the script provokes on purpose.
        utterances: what the caller said.
        answers: what the caller heard.
        turns: what the platform said of the turns on the data channel, while they happened.
        uplink: what the network did between caller and edge.
        downlink: what the network did between edge and caller.
        received: what the caller's receiver made of the downlink.
        skipped_frames: microphone frames never sent because the process was too busy.
        late_ms_max: largest delay of a microphone tick after its due time; bounds the truth's own error.
        finished: whether the call's time sufficed for its script; what the rest of it provokes was not provoked.
        error: why the call failed; None if it did not.

    """

    call: int
    region: str
    network: str
    script: str
    session_id: str | None = None
    expected: tuple[Expected, ...] = ()
    utterances: list[Utterance] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    uplink: DirectionInjected = field(default_factory=DirectionInjected)
    downlink: DirectionInjected = field(default_factory=DirectionInjected)
    received: list[Received] = field(default_factory=list)
    skipped_frames: int = 0
    late_ms_max: float = 0.0
    finished: bool = False
    error: str | None = None


@dataclass(slots=True)
class FleetReport:
    """Every call of a fleet, in order of their numbers."""

    calls: list[CallReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return asdict(self)


Progress = Callable[[CallReport, str], None]
"""Called as `(report, what)` with what ∈ `connected`, `said`, `heard`, `ended`, `failed`; must not block."""


async def run_fleet(
    config: FleetConfig,
    on_progress: Progress | None = None,
    *,
    stop: asyncio.Event | None = None,
) -> FleetReport:
    """Run a fleet's calls to their end.

    A call that fails is reported and does not disturb the others. Setting `stop` ends all calls within 2 s; so does
    cancellation, after which nothing is left running.

    Raises:
        FleetError: the configuration cannot be run: no calls or regions, or an unknown network or script.
        SpeechError: a recording cannot be used.

    """
    return await _run(config, on_progress or _ignore, stop or asyncio.Event(), rounds=1)


async def run_fleet_endlessly(
    config: FleetConfig,
    on_progress: Progress | None = None,
    *,
    stop: asyncio.Event,
) -> FleetReport:
    """Run a fleet whose callers call again when a call has ended, until `stop` is set; `seconds` 0 means 60.

    Only the last `REMEMBERED` calls are in the report. Raises like `run_fleet`.
    """
    if not config.seconds:
        config = replace(config, seconds=ENDLESS_CALL_S)
    return await _run(config, on_progress or _ignore, stop, rounds=None)


async def _run(config: FleetConfig, notify: Progress, stop: asyncio.Event, rounds: int | None) -> FleetReport:
    chosen = _scripts(config)
    # Encoding takes a core for a second; not while calls run, and not in the loop.
    phrasebook = await asyncio.to_thread(_phrasebook, config, chosen)
    reports: deque[CallReport] = deque(maxlen=REMEMBERED)
    headers = {"authorization": f"Bearer {config.token}"} if config.token else {}
    async with httpx.AsyncClient(timeout=SIGNALLING_S, headers=headers) as http, asyncio.TaskGroup() as group:
        setting = _Setting(http, phrasebook, notify, stop, reports)
        for number in range(config.calls):
            group.create_task(_call_repeatedly(config, chosen, number, setting, rounds))
    return FleetReport(sorted(reports, key=lambda report: report.call))


@dataclass(frozen=True, slots=True)
class _Setting:
    """What all callers of a fleet share."""

    http: httpx.AsyncClient
    phrasebook: Phrasebook
    notify: Progress
    stop: asyncio.Event
    reports: deque[CallReport]


async def _call_repeatedly(
    config: FleetConfig, scripts: Sequence[Script], slot: int, setting: _Setting, rounds: int | None
) -> None:
    """Make one caller's calls, one after the other; call numbers of the n-th round follow those of the round before."""
    await _sleep_unless(setting.stop, slot * config.stagger_s)
    for turn in itertools.count() if rounds is None else range(rounds):
        number = turn * config.calls + slot
        row, column = divmod(slot, len(config.regions))
        region, network = config.regions[column]
        # Neither the calls of one region nor those of one caller shall all follow one script.
        script = scripts[(row + column + turn) % len(scripts)]
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        report = CallReport(number, region, network, script.name, expected=script.expect)
        setting.reports.append(report)
        plan = CallConfig(config.signalling_url, region, PROFILES[network], script, config.seconds, seed)
        await _run_call(plan, report, setting)
        if rounds is None:
            await _sleep_unless(setting.stop, REDIAL_S)
        if setting.stop.is_set():
            return


async def _sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _run_call(plan: CallConfig, report: CallReport, setting: _Setting) -> None:
    """Run one call and fill in its report; whatever fails is noted there."""
    if setting.stop.is_set():
        report.error = "stopped before it began"
        return
    call = Call(plan, setting.http, setting.phrasebook, lambda what: setting.notify(report, what))
    try:
        await call.run(setting.stop)
    except (CallError, NetworkError) as error:
        report.error = str(error)
    except Exception as error:  # noqa: BLE001 - one call's bug is reported and must not end the other calls
        report.error = f"{type(error).__name__}: {error}"
        _log.exception("call failed unexpectedly", extra={"call": report.call, "region": report.region})
    finally:
        report.session_id = call.session_id
        report.utterances = call.microphone.utterances
        report.answers = call.conversation.answers
        report.finished = call.conversation.finished
        report.turns = call.turns
        if call.network is not None:
            report.uplink, report.downlink = call.network.report()
        report.received = call.ear.received()
        report.late_ms_max = call.microphone.late_ns_max / 1e6
        report.skipped_frames = call.microphone.skipped
    setting.notify(report, "failed" if report.error else "ended")


def _scripts(config: FleetConfig) -> list[Script]:
    """Check a configuration and return its scripts."""
    if config.calls < 1 or not config.regions or not config.scripts:
        raise FleetError("a fleet needs at least one call, one region and one script")
    for _, network in config.regions:
        if network not in PROFILES:
            raise FleetError(f"no network profile is called {network!r}; there are {', '.join(sorted(PROFILES))}")
    try:
        return [find(name) for name in config.scripts]
    except ScriptError as error:
        raise FleetError(str(error)) from error


def _phrasebook(config: FleetConfig, scripts: Sequence[Script]) -> Phrasebook:
    phrasebook = Phrasebook([load_wav(path) for path in config.speech])
    for script in dict.fromkeys(scripts):
        phrasebook.prepare(script)
    return phrasebook


def _ignore(_report: CallReport, _what: str) -> None:
    """Tell nobody."""
