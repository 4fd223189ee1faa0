"""A wall clock that is set in the middle of a call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from relay.transceiver import conversation, floorclock
from relay.transceiver.floorclock import FloorClock
from tests.unit.transceiver.test_conversation import TICK_NS, Call, Talker
from voice.floor import State

HOUR_NS = 3_600_000_000_000
UTC_NS = 1_760_000_000_000_000_000


class Clocks:
    """The host's two clocks; only the wall clock is ever set or slewed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ns = UTC_NS
        self.mono_ns = 5_000_000_000
        fake = SimpleNamespace(time_ns=lambda: self.wall_ns, monotonic_ns=lambda: self.mono_ns)
        for module in (conversation, floorclock):
            monkeypatch.setattr(module, "time", fake)

    def run(self, ns: int, slew_ppm: int = 0) -> None:
        self.mono_ns += ns
        self.wall_ns += ns + ns * slew_ppm // 1_000_000


class Timed(Call):
    """A call by those clocks."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__(Talker(50))
        self.clocks = clocks

    async def tick(self, *, speech: bool) -> None:
        self.now_ns = self.clocks.wall_ns - TICK_NS  # when the frame begins
        await super().tick(speech=speech)
        self.clocks.run(TICK_NS)

    def at_ns(self, kind: str) -> list[int]:
        return [row["at_ns"] for row in self.facts.rows["turn"] if row["kind"] == kind]


@pytest.mark.parametrize("set_ns", [-HOUR_NS, -10_000_000_000, HOUR_NS])
async def test_silence_lasts_as_long_as_it_does_whatever_the_wall_clock_is_set_to(
    monkeypatch: pytest.MonkeyPatch, set_ns: int
) -> None:
    clocks = Clocks(monkeypatch)
    call = Timed(clocks)
    await call.asked()
    await call.until(State.ENDPOINTING)
    (stopped_ns,) = call.at_ns("user_speech_stopped")
    clocks.wall_ns += set_ns
    await call.until(State.RESPONDING)
    (decided_ns,) = call.at_ns("endpoint_decided")
    # What is written down is wall time as it stands then.
    assert abs(decided_ns - stopped_ns - set_ns - 500_000_000) <= TICK_NS
    await call.until(State.AGENT_SPEAKING)
    await call.until(State.LISTENING)
    started_ns, ended_ns = call.at_ns("agent_audio_started")[0], call.at_ns("agent_audio_stopped")[0]
    assert abs(ended_ns - started_ns - 50 * TICK_NS) <= 2 * TICK_NS
    await call.conversation.aclose()


def test_slewed_clock_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    clock = FloorClock()
    for _ in range(3_000):
        clocks.run(TICK_NS, slew_ppm=5_000)
        assert clock.now_ns() == clocks.wall_ns
    assert clock.set_ns == 0
