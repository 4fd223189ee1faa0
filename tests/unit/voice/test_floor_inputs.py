"""Decisions say what they rest on: measurements and settings."""

from __future__ import annotations

from tests.unit.voice.floor_scene import FRAME_MS, MS, Scene, events
from voice.endpointing import Prediction
from voice.floor import FloorConfig
from voice.turns import PredictEnd, TurnEvent


class Probable(Scene):
    """A scene whose detector works with probabilities."""

    def user(self, duration_ms: int, *, speech: bool) -> list[object]:  # type: ignore[override]
        for _ in range(duration_ms // FRAME_MS):
            begins_ms, self.now_ms = self.now_ms, self.now_ms + FRAME_MS
            probability = 0.87654 if speech else 0.0123
            self.out += self.floor.user_frame(self.now_ms * MS, begins_ms * MS, begins_ms, speech, probability)
        return []


def test_detectors_probability_is_in_whatever_rests_on_it() -> None:
    scene = Probable()
    scene.says(1_000)
    scene.quiet(600)
    scene.agent_starts()
    scene.says(300)
    found = {event.kind: event.inputs.get("speech_probability") for event in scene.out if isinstance(event, TurnEvent)}
    assert found == {
        "user_speech_started": 0.877,
        "user_speech_stopped": 0.012,
        "endpoint_candidate": 0.012,
        "endpoint_decided": 0.012,
        "agent_audio_started": None,
        "user_barged_in": 0.877,
        "agent_yielded": 0.877,
    }


def test_detector_without_probabilities_leaves_none() -> None:
    scene = Scene()
    scene.says(1_000)
    scene.quiet(600)
    assert not any("speech_probability" in event.inputs for event in scene.out if isinstance(event, TurnEvent))


def test_asking_in_advance_is_a_decision_like_any_other() -> None:
    scene = Scene(FloorConfig(endpointing="predictor", speculate_ms=240.0))
    scene.says(400)
    scene.quiet(100)
    question = next(output.question for output in scene.out if isinstance(output, PredictEnd))
    scene.floor.predicted(scene.now_ms * MS, Prediction(question, 0.6, "oracle", 12.0))
    scene.floor.predicted(scene.now_ms * MS, Prediction(question, None, "oracle", 12.0))
    scene.quiet(140)
    (asked,) = scene.floor.model_event(scene.now_ms * MS, "response_requested")
    assert isinstance(asked, TurnEvent)
    assert (asked.actor, asked.turn_id, asked.reason, asked.silence_ms) == ("agent", 1, "speculative", 240.0)
    assert asked.detector == "energy:-50"
    assert asked.inputs == {
        "endpointing": "predictor",
        "endpoint_silence_ms": 500.0,
        "predictor": "oracle",
        "compute_ms": 12.0,
        "speculate_ms": 240.0,
    }
    (token,) = scene.floor.model_event(scene.now_ms * MS, "model_first_token")
    assert isinstance(token, TurnEvent)
    assert token.inputs == {}


def test_taking_the_floor_from_a_paused_agent_says_what_told_it_from_a_backchannel() -> None:
    scene = Scene().answered()
    scene.says(1_200)
    scene.agent_stops("yielded")
    scene.quiet(520)
    (decided,) = events(scene.out, "endpoint_decided")
    assert decided.inputs == {
        "endpointing": "silence",
        "endpoint_silence_ms": 500.0,
        "spoken_ms": 1_200.0,
        "backchannel_ms": 1_000.0,
        "resume_ms": 2_000.0,
        "claimed": False,
    }


def test_going_on_says_what_it_rests_on() -> None:
    scene = Scene().answered()
    scene.says(400)
    scene.agent_stops("yielded")
    scene.quiet(520)
    scene.agent_starts()
    (resumed,) = events(scene.out, "agent_resumed")
    assert resumed.inputs == {
        "endpointing": "silence",
        "endpoint_silence_ms": 500.0,
        "silence_ms": 500.0,
        "spoken_ms": 400.0,
        "backchannel_ms": 1_000.0,
        "resume_ms": 2_000.0,
        "claimed": False,
    }


def test_giving_way_to_words_is_told_from_giving_way_to_time() -> None:
    by_time, by_words = Scene().answered(), Scene().answered()
    by_time.says(300)
    by_words.says(100)
    by_words.out += by_words.floor.floor_claimed(by_words.now_ms * MS)
    for kind in ("user_barged_in", "agent_yielded"):
        assert [event.reason for event in events(by_time.out, kind)] == [None]
        assert [event.reason for event in events(by_words.out, kind)] == ["words"]
