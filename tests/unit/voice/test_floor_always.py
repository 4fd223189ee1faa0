"""What holds in any conversation, however odd."""

from __future__ import annotations

from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.schema import TURN_KINDS
from tests.unit.voice.floor_scene import FRAME_MS, MS
from voice.endpointing import Prediction
from voice.floor import Control, Floor, FloorConfig
from voice.floor_table import AUDIBLE
from voice.turns import (
    FloorOutput,
    PauseAgent,
    PredictEnd,
    ReleaseResponse,
    RequestResponse,
    ResumeAgent,
    StopAgent,
    StopReason,
    TurnEvent,
)

Step = tuple[str, int]

STEPS = st.one_of(
    st.tuples(st.sampled_from(["speech", "speech", "quiet", "quiet"]), st.integers(0, 60)),
    st.tuples(st.sampled_from(["speech", "quiet"]), st.integers(1, 8)),
    st.tuples(st.sampled_from(["agent_started", "completed", "yielded", "error", "late_frame"]), st.integers(0, 500)),
    st.tuples(st.sampled_from(["model_first_audio", "claimed", "turn_ended"]), st.integers(0, 500)),
    st.tuples(st.sampled_from(["commit", "ask", "left"]), st.integers(0, 7)),
    st.tuples(st.just("predicted"), st.integers(0, 100)),
)

CONFIGS = st.builds(
    FloorConfig,
    endpointing=st.sampled_from(["silence", "predictor", "model"]),
    speculate_ms=st.sampled_from([None, 0.0, 200.0, 400.0]),
    unlikely_silence_ms=st.sampled_from([200.0, 1_500.0, 4_000.0]),
    backchannel_ms=st.sampled_from([0.0, 1_000.0]),
    detector_hangover_ms=st.sampled_from([0.0, 115.0]),
)


class Play:
    """A floor to which things happen one after another; late, early and unasked things, too."""

    def __init__(self, config: FloorConfig, *, stop_when_told: bool) -> None:
        self.floor = Floor(config, "test")
        self.stop_when_told = stop_when_told
        self.out: list[FloorOutput | str] = []
        self.now = 1_700_000_000_000 * MS
        self.audio_ms = 0.0
        self.question = 0

    def speech(self, frames: int, *, speech: bool = True) -> list[FloorOutput]:
        got: list[FloorOutput] = []
        for _ in range(frames):
            got += self.floor.user_frame(self.now + FRAME_MS * MS, self.now, self.audio_ms, speech)
            self.now += FRAME_MS * MS
            self.audio_ms += FRAME_MS
        return got

    def quiet(self, frames: int) -> list[FloorOutput]:
        return self.speech(frames, speech=False)

    def late_frame(self, ms: int) -> list[FloorOutput]:
        """A frame that claims an earlier time, on a clock that goes back."""
        return self.floor.user_frame(self.now - ms * MS, self.now - ms * MS, self.audio_ms, speech=True)

    def agent_started(self, ms: int) -> list[FloorOutput]:
        return self.floor.agent_started(self.now - ms * MS, self.audio_ms)

    def commit(self, _: int) -> list[FloorOutput]:
        return self.floor.commit(self.now)

    def ask(self, _: int) -> list[FloorOutput]:
        turn_id = self.floor.turn_id
        got = self.floor.ask(self.now, "application")
        unasked = [output for output in got if isinstance(output, RequestResponse) and output.turn_id < turn_id]
        return [] if unasked else got  # such as a greeting, which whatever is asked for next replaces

    def left(self, number: int) -> list[FloorOutput]:
        """The application takes some of it over, or gives it back."""
        self.floor.control = Control(*(bool(number & bit) for bit in (1, 2, 4)))
        return []

    def model_first_audio(self, _: int) -> list[FloorOutput]:
        return self.floor.model_event(self.now, "model_first_audio")

    def claimed(self, _: int) -> list[FloorOutput]:
        return self.floor.floor_claimed(self.now)

    def turn_ended(self, _: int) -> list[FloorOutput]:
        return self.floor.turn_ended(self.now, "server_vad")

    def predicted(self, choice: int) -> list[FloorOutput]:
        prediction = Prediction(self.question - choice // 80, choice % 80 / 80, "oracle")
        return self.floor.predicted(self.now, prediction)

    def stopped(self, reason: StopReason, ms: int) -> list[FloorOutput]:
        if self.floor.state not in AUDIBLE and reason in ("completed", "error"):
            self.out.append("failed")
        return self.floor.agent_stopped(self.now + ms * MS, self.audio_ms, reason)

    def run(self, steps: list[Step]) -> list[FloorOutput | str]:
        """All outputs in order; `"failed"` where an answer was reported to have failed before it was heard."""
        for what, amount in steps:
            got = self.stopped(what, amount) if what in get_args(StopReason) else getattr(self, what)(amount)  # type: ignore[arg-type]
            if self.stop_when_told and any(isinstance(output, PauseAgent) for output in got):
                got += self.floor.agent_stopped(self.now, self.audio_ms, "yielded")
            self.question = max([self.question, *(o.question for o in got if isinstance(o, PredictEnd))])
            self.out += got
        return self.out + self.floor.hangup(self.now)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40), CONFIGS, st.booleans())
def test_what_holds_in_any_conversation(steps: list[Step], config: FloorConfig, stop_when_told: bool) -> None:
    out = Play(config, stop_when_told=stop_when_told).run(steps)
    assert out == Play(config, stop_when_told=stop_when_told).run(steps)
    facts = [output for output in out if isinstance(output, TurnEvent)]
    assert {fact.kind for fact in facts} <= set(TURN_KINDS)
    for actor in ("user", "agent", "system"):
        own = [fact for fact in facts if fact.actor == actor]
        assert [fact.turn_id for fact in own] == sorted(fact.turn_id for fact in own)
        times = [fact.at_ns for fact in own if fact.kind != "backchannel"]
        assert times == sorted(times)
    onsets = {fact.at_ns for fact in facts if fact.kind == "user_speech_started"}
    assert {fact.at_ns for fact in facts if fact.kind == "backchannel"} <= onsets
    speaking = {"user": False, "agent": False}
    for fact in facts:
        if fact.kind in ("user_speech_started", "agent_audio_started", "agent_resumed"):
            assert not speaking[fact.actor]
            speaking[fact.actor] = True
        elif fact.kind in ("user_speech_stopped", "agent_audio_stopped"):
            assert speaking[fact.actor]
            speaking[fact.actor] = False
    assert not any(speaking.values())  # hanging up closes what is open
    assert all(fact.threshold is not None for fact in facts if fact.probability is not None)


class Ledger:
    """Answers asked for and not heard yet, and answers of which the agent keeps a rest: one of each at most."""

    def __init__(self) -> None:
        self.due: int | None = None
        self.kept_back = False
        self.paused: int | None = None

    def enter(self, output: FloorOutput | str) -> None:
        match output:
            case RequestResponse(turn_id, speculative):
                assert self.due is None
                assert self.paused is None
                self.due, self.kept_back = turn_id, speculative
            case ReleaseResponse(turn_id):
                assert (turn_id, True) == (self.due, self.kept_back)
                self.kept_back = False
            case PauseAgent(turn_id):
                self.paused = turn_id
            case ResumeAgent(turn_id):
                assert turn_id == self.paused
            case StopAgent(turn_id, "revoked"):
                assert turn_id == self.due
                self.due = None
            case StopAgent(turn_id):
                assert turn_id == self.paused
                self.paused = None
            case "failed":
                self.due = self.paused = None
            case TurnEvent(kind="agent_resumed", turn_id=turn_id):
                assert turn_id == self.paused
                self.paused = None
            case TurnEvent(kind="agent_audio_started", turn_id=turn_id):
                assert turn_id == (self.due or turn_id)
                self.due = self.paused = None


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40), CONFIGS)
def test_every_answer_asked_for_is_heard_or_given_up_before_the_next(steps: list[Step], config: FloorConfig) -> None:
    ledger = Ledger()
    for output in Play(config, stop_when_told=True).run(steps):
        ledger.enter(output)
