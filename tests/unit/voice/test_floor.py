"""The floor machine: scenes of a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from eventlog.schema import AGENT_STOP_REASONS
from tests.unit.voice.floor_scene import MS, Scene, events, short
from voice.floor import Floor, FloorConfig
from voice.floor_diagram import diagram, page
from voice.floor_table import CAUSE, MEANING, TABLE, Event, State
from voice.turns import StopAgent, StopReason, TurnEvent


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


@pytest.mark.parametrize("quiet_ms", [0, 300])
def test_what_a_user_says_to_a_paused_agent_that_loses_the_rest_is_a_turn(quiet_ms: int) -> None:
    scene = Scene().answered()
    scene.says(400)
    scene.agent_stops("yielded")
    scene.quiet(quiet_ms)
    assert scene.agent_stops("completed") == []
    scene.quiet(520)
    assert short(scene.out)[-2:] == [("endpoint_decided", 2), ("RequestResponse", 2)]
    assert events(scene.out, "backchannel") == []


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
