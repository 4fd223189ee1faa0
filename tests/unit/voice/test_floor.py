"""The floor machine: scenes of a conversation, and what must hold in any."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.schema import AGENT_STOP_REASONS, TURN_KINDS
from voice.endpointing import Prediction
from voice.floor import Floor, FloorConfig
from voice.floor_diagram import diagram, page
from voice.floor_table import CAUSE, MEANING, TABLE, Event, State
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

MS = 1_000_000
FRAME_MS = 20


class Scene:
    """A floor with a clock: say how long the user speaks or is quiet, and read what came of it."""

    def __init__(self, config: FloorConfig | None = None) -> None:
        self.floor = Floor(config, "energy:-50")
        self.now_ms = 0
        self.out: list[FloorOutput] = []

    def user(self, duration_ms: int, *, speech: bool) -> list[FloorOutput]:
        out: list[FloorOutput] = []
        for _ in range(duration_ms // FRAME_MS):
            begins_ms, self.now_ms = self.now_ms, self.now_ms + FRAME_MS
            out += self.floor.user_frame(self.now_ms * MS, begins_ms * MS, float(begins_ms), speech)
        self.out += out
        return out

    def says(self, duration_ms: int) -> list[FloorOutput]:
        return self.user(duration_ms, speech=True)

    def quiet(self, duration_ms: int) -> list[FloorOutput]:
        return self.user(duration_ms, speech=False)

    def agent_starts(self) -> list[FloorOutput]:
        return self._took(self.floor.agent_started(self.now_ms * MS, 0.0))

    def agent_stops(self, reason: StopReason = "completed") -> list[FloorOutput]:
        return self._took(self.floor.agent_stopped(self.now_ms * MS, 0.0, reason))

    def hangs_up(self) -> list[FloorOutput]:
        return self._took(self.floor.hangup(self.now_ms * MS))

    def _took(self, out: list[FloorOutput]) -> list[FloorOutput]:
        self.out += out
        return out

    def answered(self) -> Scene:
        """Go on to the middle of the answer to the user's first turn."""
        self.quiet(200)
        self.says(1000)
        self.quiet(600)
        self.agent_starts()
        self.quiet(400)
        self.out.clear()
        return self


def short(out: Iterable[FloorOutput]) -> list[tuple[str, int]]:
    return [
        (output.kind if isinstance(output, TurnEvent) else type(output).__name__, getattr(output, "turn_id", 0))
        for output in out
    ]


def events(out: Iterable[FloorOutput], kind: str) -> list[TurnEvent]:
    return [output for output in out if isinstance(output, TurnEvent) and output.kind == kind]


def test_a_turn_from_the_first_word_to_the_end_of_the_answer() -> None:
    scene = Scene()
    scene.quiet(200)
    scene.says(1000)
    scene.quiet(600)
    scene.floor.model_event(scene.now_ms * MS, "model_first_audio")
    scene.agent_starts()
    scene.quiet(300)
    scene.agent_stops()
    assert short(scene.out) == [
        ("user_speech_started", 1),
        ("user_speech_stopped", 1),
        ("endpoint_candidate", 1),
        ("endpoint_decided", 1),
        ("RequestResponse", 1),
        ("agent_audio_started", 1),
        ("agent_audio_stopped", 1),
    ]
    assert scene.floor.state is State.LISTENING
    assert scene.floor.turn_id == 2


def test_speech_is_dated_back_to_its_first_frame_and_its_end_to_the_last() -> None:
    scene = Scene()
    scene.quiet(200)
    out = scene.says(1000)
    assert scene.now_ms == 1200
    scene.quiet(600)
    started, stopped = events(out, "user_speech_started")[0], events(scene.out, "user_speech_stopped")[0]
    assert (started.at_ns, started.audio_ms) == (200 * MS, 200.0)
    assert (stopped.at_ns, stopped.audio_ms, stopped.silence_ms) == (1200 * MS, 1200.0, 200.0)
    assert stopped.detector == "energy:-50"


def test_a_detectors_hangover_is_taken_off_the_end_and_counts_as_silence() -> None:
    scene = Scene(FloorConfig(detector_hangover_ms=115.0))
    scene.says(1000)
    scene.quiet(600)
    assert events(scene.out, "user_speech_stopped")[0].at_ns == 885 * MS
    decided = events(scene.out, "endpoint_decided")[0]
    assert decided.silence_ms == 515.0
    assert decided.at_ns == 1400 * MS


def test_a_click_is_not_speech() -> None:
    scene = Scene()
    for _ in range(5):
        scene.says(40)
        scene.quiet(100)
    assert scene.out == []
    assert scene.floor.state is State.LISTENING


def test_a_gap_between_words_does_not_end_speech() -> None:
    scene = Scene()
    scene.says(400)
    scene.quiet(180)
    scene.says(400)
    scene.quiet(300)
    assert short(scene.out) == [("user_speech_started", 1), ("user_speech_stopped", 1), ("endpoint_candidate", 1)]
    assert events(scene.out, "user_speech_stopped")[0].inputs["speech_ms"] == 800.0


def test_a_pause_within_a_turn_keeps_the_turn() -> None:
    scene = Scene()
    scene.says(400)
    scene.quiet(400)
    scene.says(400)
    scene.quiet(520)
    assert short(scene.out) == [
        ("user_speech_started", 1),
        ("user_speech_stopped", 1),
        ("endpoint_candidate", 1),
        ("user_speech_started", 1),
        ("user_speech_stopped", 1),
        ("endpoint_candidate", 1),
        ("endpoint_decided", 1),
        ("RequestResponse", 1),
    ]


def test_a_user_who_goes_on_before_the_answer_revokes_the_endpoint() -> None:
    scene = Scene()
    scene.says(400)
    scene.quiet(600)
    scene.out.clear()
    scene.says(400)
    assert short(scene.out) == [("endpoint_revoked", 1), ("StopAgent", 1), ("user_speech_started", 1)]
    assert scene.out[1] == StopAgent(1, "revoked")
    revoked = events(scene.out, "endpoint_revoked")[0]
    assert revoked.silence_ms == 600.0
    late = scene.floor.model_event(scene.now_ms * MS, "model_first_audio")
    assert isinstance(late[0], TurnEvent)
    assert late[0].reason == "revoked"
    assert short(scene.quiet(520))[-1] == ("RequestResponse", 1)


def test_late_word_of_a_revoked_response_does_not_end_the_new_one() -> None:
    scene = Scene()
    scene.says(400)
    scene.quiet(600)
    scene.says(400)
    scene.quiet(600)
    assert scene.agent_stops("yielded") == []
    assert scene.floor.state is State.RESPONDING


def test_barging_in_makes_the_agent_yield() -> None:
    scene = Scene().answered()
    scene.says(300)
    assert short(scene.out) == [
        ("user_speech_started", 2),
        ("user_barged_in", 2),
        ("agent_yielded", 1),
        ("PauseAgent", 1),
    ]
    onset_ns = events(scene.out, "user_speech_started")[0].at_ns
    assert events(scene.out, "user_barged_in")[0].at_ns == onset_ns
    assert events(scene.out, "agent_yielded")[0].at_ns == onset_ns + 200 * MS
    scene.out.clear()
    scene.agent_stops("yielded")
    scene.says(800)
    scene.quiet(600)
    assert short(scene.out) == [
        ("agent_audio_stopped", 1),
        ("user_speech_stopped", 2),
        ("endpoint_candidate", 2),
        ("StopAgent", 1),
        ("endpoint_decided", 2),
        ("RequestResponse", 2),
    ]


def test_a_user_who_is_done_before_the_agent_has_stopped_is_answered_still() -> None:
    scene = Scene().answered()
    scene.says(1000)
    scene.quiet(600)
    assert scene.floor.state is State.YIELDING_QUIET
    scene.agent_stops("yielded")
    assert short(scene.quiet(20)) == [("StopAgent", 1), ("endpoint_decided", 2), ("RequestResponse", 2)]


def test_an_agent_that_gave_way_to_a_short_word_goes_on_where_it_stopped() -> None:
    scene = Scene().answered()
    scene.says(400)
    scene.agent_stops("yielded")
    scene.out.clear()
    scene.quiet(500)
    assert short(scene.out) == [
        ("user_speech_stopped", 2),
        ("endpoint_candidate", 2),
        ("backchannel", 2),
        ("ResumeAgent", 1),
    ]
    assert scene.floor.state is State.RESUMING
    scene.agent_starts()
    scene.quiet(500)
    scene.agent_stops()
    assert short(scene.out)[4:] == [("agent_resumed", 1), ("agent_audio_stopped", 1)]
    resumed = events(scene.out, "agent_resumed")[0]
    assert (resumed.reason, resumed.inputs["spoken_ms"]) == ("backchannel", 400.0)
    assert short(scene.says(100)) == [("user_speech_started", 2)]


def test_every_word_of_a_false_barge_in_is_a_backchannel_of_its_own() -> None:
    scene = Scene().answered()
    scene.says(300)
    scene.agent_stops("yielded")
    scene.quiet(300)
    scene.says(200)
    scene.quiet(500)
    onsets = [event.at_ns for event in events(scene.out, "user_speech_started")]
    assert [event.at_ns for event in events(scene.out, "backchannel")] == onsets
    assert len(onsets) == 2


def test_several_short_words_take_the_floor_together() -> None:
    scene = Scene().answered()
    for _ in range(3):
        scene.says(400)
        if scene.floor.state is State.YIELDING:
            scene.agent_stops("yielded")
        scene.quiet(300)
    assert short(scene.quiet(300))[-2:] == [("endpoint_decided", 2), ("RequestResponse", 2)]


def test_a_word_that_claims_the_floor_takes_it_however_short() -> None:
    scene = Scene().answered()
    scene.says(100)
    scene.out += scene.floor.floor_claimed(scene.now_ms * MS)
    assert short(scene.out)[-1] == ("PauseAgent", 1)
    scene.agent_stops("yielded")
    scene.quiet(520)
    assert short(scene.out)[-3:] == [("StopAgent", 1), ("endpoint_decided", 2), ("RequestResponse", 2)]


def test_a_user_who_goes_on_before_the_agent_does_keeps_it_waiting() -> None:
    scene = Scene().answered()
    scene.says(400)
    scene.agent_stops("yielded")
    scene.quiet(500)
    assert scene.floor.state is State.RESUMING
    assert short(scene.says(100)) == [("PauseAgent", 1), ("user_speech_started", 2)]
    scene.says(1000)
    assert short(scene.quiet(500))[-3:] == [("StopAgent", 1), ("endpoint_decided", 2), ("RequestResponse", 2)]


def test_an_agent_with_nothing_left_to_say_does_not_resume() -> None:
    scene = Scene().answered()
    scene.says(300)
    scene.agent_stops("completed")
    assert short(scene.quiet(520))[-2:] == [("endpoint_decided", 2), ("RequestResponse", 2)]


def test_a_paused_agent_goes_on_if_nothing_ends_the_users_turn() -> None:
    scene = Scene(FloorConfig(endpointing="model", unlikely_silence_ms=3_000.0)).answered()
    scene.quiet(3_000)  # nor did the model say anything about the first turn
    scene.agent_starts()
    scene.says(1_200)
    scene.agent_stops("yielded")
    scene.out.clear()
    scene.quiet(2_000)
    assert short(scene.out)[-1] == ("ResumeAgent", 1)
    scene.agent_starts()
    assert events(scene.out, "agent_resumed")[0].reason == "no_turn"
    assert events(scene.out, "backchannel") == []


def test_an_answer_asked_for_in_advance_waits_for_the_decision() -> None:
    scene = Scene(FloorConfig(speculate_ms=240.0))
    scene.says(400)
    scene.quiet(240)
    assert scene.out[-1] == RequestResponse(1, speculative=True)
    for kind in ("response_requested", "model_first_audio"):
        (fact,) = scene.floor.model_event(scene.now_ms * MS, kind)  # type: ignore[arg-type]
        assert isinstance(fact, TurnEvent)
        assert fact.reason == "speculative"
    assert events(scene.out, "endpoint_decided") == []
    scene.quiet(260)
    assert scene.out[-1] == ReleaseResponse(1)
    assert events(scene.out, "endpoint_decided")[0].inputs["speculative"] is True
    assert short(scene.agent_starts()) == [("agent_audio_started", 1)]


def test_an_answer_asked_for_in_advance_is_dropped_if_the_user_goes_on() -> None:
    scene = Scene(FloorConfig(speculate_ms=240.0))
    scene.says(400)
    scene.quiet(300)
    scene.out.clear()
    scene.says(100)
    assert short(scene.out) == [("endpoint_revoked", 1), ("StopAgent", 1), ("user_speech_started", 1)]
    assert events(scene.out, "endpoint_revoked")[0].reason == "speculative"
    scene.quiet(600)
    assert sum(isinstance(output, RequestResponse) for output in scene.out) == 1
    assert short(scene.agent_starts()) == [("agent_audio_started", 1)]


def test_an_answer_that_failed_in_advance_is_asked_for_again_once_the_turn_is_over() -> None:
    scene = Scene(FloorConfig(speculate_ms=240.0))
    scene.says(400)
    scene.quiet(300)
    assert scene.agent_stops("error") == []
    assert short(scene.quiet(200)) == [("endpoint_decided", 1), ("RequestResponse", 1)]


PREDICTED = FloorConfig(endpointing="predictor", speculate_ms=200.0)


def predict(scene: Scene, probability: float | None) -> list[FloorOutput]:
    """Answer the last question."""
    question = next(output.question for output in reversed(scene.out) if isinstance(output, PredictEnd))
    out = scene.floor.predicted(scene.now_ms * MS, Prediction(question, probability, "oracle", 12.0))
    scene.out += out
    return out


def test_a_predictor_is_asked_once_per_silence_and_may_end_the_turn_early() -> None:
    scene = Scene(PREDICTED)
    scene.says(400)
    scene.quiet(160)
    assert [type(output) for output in scene.out[1:]] == [PredictEnd]
    assert predict(scene, 0.9) == []
    scene.quiet(40)
    assert short(scene.out)[2:] == [
        ("user_speech_stopped", 1),
        ("endpoint_candidate", 1),
        ("endpoint_decided", 1),
        ("RequestResponse", 1),
    ]
    decided = events(scene.out, "endpoint_decided")[0]
    assert (decided.probability, decided.threshold, decided.silence_ms) == (0.9, 0.5, 200.0)
    assert decided.inputs == {
        "endpointing": "predictor",
        "endpoint_silence_ms": 200.0,
        "predictor": "oracle",
        "compute_ms": 12.0,
    }


def test_a_predictor_that_answers_in_the_pause_decides_at_once() -> None:
    scene = Scene(PREDICTED)
    scene.says(400)
    scene.quiet(240)
    assert scene.floor.state is State.SPECULATING
    assert short(predict(scene, 0.5)) == [("endpoint_candidate", 1), ("endpoint_decided", 1), ("ReleaseResponse", 1)]


def test_a_doubtful_predictor_holds_the_answer_back() -> None:
    scene = Scene(PREDICTED)
    scene.says(400)
    scene.quiet(100)
    predict(scene, 0.2)
    scene.quiet(1_380)
    assert scene.floor.state is State.ENDPOINTING  # and nothing was asked for in advance
    assert short(scene.quiet(20)) == [("endpoint_decided", 1), ("RequestResponse", 1)]


def test_without_an_answer_the_plain_silence_holds() -> None:
    scene = Scene(PREDICTED)
    scene.says(400)
    scene.quiet(300)
    predict(scene, None)
    assert short(scene.quiet(200))[-1] == ("ReleaseResponse", 1)


def test_a_prediction_about_a_silence_that_is_over_is_late() -> None:
    scene = Scene(PREDICTED)
    scene.says(400)
    scene.quiet(120)
    scene.says(400)
    assert predict(scene, 0.99) == []
    assert scene.floor.endpointer.late == 1
    scene.quiet(120)
    assert sum(isinstance(output, PredictEnd) for output in scene.out) == 2


def test_the_model_that_listens_may_end_the_turn() -> None:
    scene = Scene(FloorConfig(endpointing="model"))
    scene.says(400)
    scene.quiet(700)
    assert scene.floor.state is State.ENDPOINTING
    scene.out += scene.floor.turn_ended(scene.now_ms * MS, "semantic_vad")
    assert short(scene.out)[-2:] == [("endpoint_decided", 1), ("RequestResponse", 1)]
    assert events(scene.out, "endpoint_decided")[0].inputs["model_reason"] == "semantic_vad"


def test_the_model_may_say_so_before_the_pause_is_certain() -> None:
    scene = Scene(FloorConfig(endpointing="model"))
    scene.says(400)
    scene.quiet(100)
    assert scene.floor.turn_ended(scene.now_ms * MS, "server_vad") == []
    assert short(scene.quiet(100))[-1] == ("RequestResponse", 1)


def test_a_short_word_over_the_agent_is_a_backchannel_and_no_turn() -> None:
    scene = Scene().answered()
    scene.says(140)
    scene.quiet(300)
    assert short(scene.out) == [("user_speech_started", 2), ("backchannel", 2), ("user_speech_stopped", 2)]
    assert events(scene.out, "backchannel")[0].inputs["duration_ms"] == 140.0
    assert scene.floor.state is State.AGENT_SPEAKING
    scene.quiet(600)
    scene.agent_stops()
    assert short(scene.says(100)) == [("user_speech_started", 2)]


def test_a_word_that_outlasts_the_answer_is_a_turn() -> None:
    scene = Scene().answered()
    scene.says(100)
    scene.agent_stops()
    scene.says(400)
    scene.quiet(520)
    assert short(scene.out)[-2:] == [("endpoint_decided", 2), ("RequestResponse", 2)]
    assert short(scene.agent_starts()) == [("agent_audio_started", 2)]


def test_what_a_user_says_on_after_being_talked_over_is_the_next_turn() -> None:
    scene = Scene()
    scene.says(1000)
    scene.agent_starts()
    scene.says(100)
    scene.agent_stops()
    scene.says(400)
    assert short(scene.quiet(300)) == [("user_speech_stopped", 2), ("endpoint_candidate", 2)]


def test_an_agent_that_starts_over_the_user_yields_when_the_user_does_not_stop() -> None:
    scene = Scene()
    scene.says(1000)
    scene.agent_starts()
    assert scene.floor.state is State.TALKED_OVER
    scene.says(220)
    barged = events(scene.out, "user_barged_in")[0]
    assert (barged.turn_id, barged.at_ns, barged.audio_ms) == (2, 1000 * MS, 1000.0)
    assert barged.inputs["speech_ms"] == 200.0
    assert short(scene.out)[-1] == ("PauseAgent", 1)
    scene.agent_stops("yielded")
    assert short(scene.quiet(520))[-1] == ("RequestResponse", 2)  # what was cut in on is not taken up again


def test_an_agent_that_starts_over_the_last_word_keeps_the_floor() -> None:
    scene = Scene()
    scene.says(1000)
    scene.agent_starts()
    scene.says(100)
    assert short(scene.quiet(300)) == [("user_speech_stopped", 1)]
    assert scene.floor.state is State.AGENT_SPEAKING


def test_a_greeting_belongs_to_no_turn() -> None:
    scene = Scene()
    scene.agent_starts()
    scene.quiet(500)
    scene.agent_stops()
    assert short(scene.out) == [("agent_audio_started", 0), ("agent_audio_stopped", 0)]
    assert short(scene.says(100)) == [("user_speech_started", 1)]


@pytest.mark.parametrize("reason", ["completed", "error"])
def test_a_response_that_fails_unheard_closes_its_turn(reason: StopReason) -> None:
    scene = Scene()
    scene.says(400)
    scene.quiet(600)
    assert scene.agent_stops(reason) == []
    assert scene.floor.state is State.LISTENING
    assert short(scene.says(100)) == [("user_speech_started", 2)]


def test_hanging_up_closes_what_is_open_and_nothing_follows() -> None:
    scene = Scene().answered()
    scene.says(300)
    scene.out.clear()
    scene.hangs_up()
    assert short(scene.out) == [("user_speech_stopped", 2), ("agent_audio_stopped", 1)]
    assert {event.reason for event in scene.out if isinstance(event, TurnEvent)} == {"hangup"}
    assert scene.says(500) == scene.agent_starts() == scene.hangs_up() == []
    assert scene.floor.model_event(scene.now_ms * MS, "tool_started") == []


def test_what_does_not_exist_is_refused() -> None:
    floor = Floor()
    with pytest.raises(ValueError, match="no step of a model; there are model_first_audio"):
        floor.model_event(0, "model_sneezed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no reason to stop; there are completed"):
        floor.agent_stopped(0, 0.0, "bored")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="barge_in_ms is a duration"):
        FloorConfig(barge_in_ms=-1)
    with pytest.raises(ValueError, match="pause_ms 600 is longer than endpoint_silence_ms"):
        FloorConfig(pause_ms=600)
    with pytest.raises(ValueError, match="longer than likely_silence_ms"):
        FloorConfig(endpointing="predictor", likely_silence_ms=100)
    with pytest.raises(ValueError, match="one of model, predictor, silence"):
        FloorConfig(endpointing="guess")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold is a probability"):
        FloorConfig(threshold=1.5)


Step = tuple[str, int]

STEPS = st.one_of(
    st.tuples(st.sampled_from(["speech", "speech", "quiet", "quiet"]), st.integers(0, 60)),
    st.tuples(st.sampled_from(["speech", "quiet"]), st.integers(1, 8)),
    st.tuples(st.sampled_from(["agent_started", "completed", "yielded", "error", "late_frame"]), st.integers(0, 500)),
    st.tuples(st.sampled_from(["model_first_audio", "claimed", "turn_ended"]), st.integers(0, 500)),
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
        if self.floor.state in (State.SPECULATING, State.RESPONDING, State.RESUMING) and reason != "yielded":
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


def test_every_row_has_a_handler_and_every_state_can_be_reached() -> None:
    assert all(callable(getattr(Floor, f"_{transition.handler}")) for transition in TABLE.values())
    reached = {State.LISTENING}
    while more := {t.state for (state, _), t in TABLE.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State) == set(MEANING)
    assert {event for _, event in TABLE} == set(Event) == set(CAUSE)


def test_the_reasons_are_the_facts_reasons() -> None:
    assert set(get_args(StopReason)) == set(AGENT_STOP_REASONS)


def test_the_page_of_the_docs_is_up_to_date() -> None:
    written = Path(__file__).parents[3].joinpath("docs", "floor.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m voice.floor_diagram > docs/floor.md"
    assert diagram().count("-->") == 1 + sum(event is not Event.HANGUP for _, event in TABLE)
