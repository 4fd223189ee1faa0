"""Many callers at once, in one event loop, each on its own impaired network."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from relay.caller.client import Call, CallConfig, CallError
from relay.caller.network import NetworkError
from relay.caller.phrasebook import Phrasebook
from relay.caller.records import Answer, DirectionInjected, Received, Utterance
from relay.caller.script import Script, ScriptError, built_in
from relay.speech import load_wav
from voice.netem import PROFILES

SIGNALLING_S: Final = 10.0
"""How long the signalling server may take to answer an offer."""

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
        scripts: names of built-in scripts (see `relay.caller.script`), dealt out to the calls of each region in turn.
        speech: recordings that the callers say in place of the shipped questions.
        stagger_s: time between two calls' starts, so that handshakes do not starve voice of CPU.

    """

    signalling_url: str
    calls: int
    regions: Sequence[tuple[str, str]]
    seed: int = 1
    seconds: float = 30.0
    scripts: Sequence[str] = ("simple",)
    speech: Sequence[Path] = ()
    stagger_s: float = 0.1


@dataclass(slots=True)
class CallReport:
    """One call as its caller knows it.

    Attributes:
        call: number of the call in the fleet, from 0.
        region: region called.
        network: name of the network profile.
        script: name of the script.
        session_id: the platform's id of the session; None if the call was never answered.
        utterances: what the caller said.
        answers: what the caller heard.
        uplink: what the network did between caller and edge.
        downlink: what the network did between edge and caller.
        received: what the caller's receiver made of the downlink.
        skipped_frames: microphone frames never sent because the process was too busy.
        late_ms_max: largest delay of a microphone tick after its due time; bounds the truth's own error.
        error: why the call failed; None if it did not.

    """

    call: int
    region: str
    network: str
    script: str
    session_id: str | None = None
    utterances: list[Utterance] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    uplink: DirectionInjected = field(default_factory=DirectionInjected)
    downlink: DirectionInjected = field(default_factory=DirectionInjected)
    received: list[Received] = field(default_factory=list)
    skipped_frames: int = 0
    late_ms_max: float = 0.0
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
    stop = stop or asyncio.Event()
    plans = _plan(config)
    # Encoding takes a core for a second; not while calls run, and not in the loop.
    phrasebook = await asyncio.to_thread(_phrasebook, config, [plan.script for plan, _ in plans])
    report = FleetReport([call for _, call in plans])
    notify = on_progress or _ignore
    async with httpx.AsyncClient(timeout=SIGNALLING_S) as http, asyncio.TaskGroup() as group:
        for plan, call in plans:
            group.create_task(_run_call(plan, call, http, phrasebook, notify, stop, call.call * config.stagger_s))
    return report


async def _run_call(
    plan: CallConfig,
    report: CallReport,
    http: httpx.AsyncClient,
    phrasebook: Phrasebook,
    notify: Progress,
    stop: asyncio.Event,
    delay_s: float,
) -> None:
    """Run one call and fill in its report; whatever fails is noted there."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), delay_s)
    if stop.is_set():
        report.error = "stopped before it began"
        return
    call = Call(plan, http, phrasebook, lambda what: notify(report, what))
    try:
        await call.run(stop)
    except (CallError, NetworkError) as error:
        report.error = str(error)
    except Exception as error:  # noqa: BLE001 - one call's bug is reported and must not end the other calls
        report.error = f"{type(error).__name__}: {error}"
        _log.exception("call failed unexpectedly", extra={"call": report.call, "region": report.region})
    finally:
        report.session_id = call.session_id
        report.utterances = call.microphone.utterances
        report.answers = call.conversation.answers
        if call.network is not None:
            report.uplink, report.downlink = call.network.report()
        report.received = call.ear.received()
        report.late_ms_max = call.microphone.late_ns_max / 1e6
        report.skipped_frames = call.microphone.skipped
    notify(report, "failed" if report.error else "ended")


def _plan(config: FleetConfig) -> list[tuple[CallConfig, CallReport]]:
    if config.calls < 1 or not config.regions or not config.scripts:
        raise FleetError("a fleet needs at least one call, one region and one script")
    plans = []
    for number in range(config.calls):
        region, network = config.regions[number % len(config.regions)]
        # Calls of one region shall not all follow one script, so scripts advance once per round of regions.
        script = config.scripts[(number + number // len(config.regions)) % len(config.scripts)]
        if network not in PROFILES:
            raise FleetError(f"no network profile is called {network!r}; there are {', '.join(sorted(PROFILES))}")
        try:
            chosen = built_in(script)
        except ScriptError as error:
            raise FleetError(str(error)) from error
        seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
        plan = CallConfig(config.signalling_url, region, PROFILES[network], chosen, config.seconds, seed)
        plans.append((plan, CallReport(number, region, network, script)))
    return plans


def _phrasebook(config: FleetConfig, scripts: Sequence[Script]) -> Phrasebook:
    phrasebook = Phrasebook([load_wav(path) for path in config.speech])
    for script in dict.fromkeys(scripts):
        phrasebook.prepare(script)
    return phrasebook


def _ignore(_report: CallReport, _what: str) -> None:
    """Tell nobody."""
