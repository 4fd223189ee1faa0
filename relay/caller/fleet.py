"""Many callers at once, in one event loop, each on its own impaired network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from relay.caller.records import Answer, DirectionInjected, Received, Utterance


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """What to call, how often, and over which networks.

    Attributes:
        signalling_url: base URL of the signalling server, such as `http://127.0.0.1:8080`.
        calls: number of simultaneous calls; call i takes `regions[i % len(regions)]`.
        regions: pairs of region and network profile (a name in `voice.netem.PROFILES`).
        seed: everything random in the fleet follows from it.
        seconds: length of each call, from its connection.
        scripts: names of built-in scripts (see `relay.caller.script`); call i takes `scripts[i % len(scripts)]`.
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
    """
    raise NotImplementedError
