"""How a turn is held to be over: answers asked for in advance, predictors, the model that listens."""

from __future__ import annotations

from tests.unit.voice.floor_scene import MS, Scene, events, short
from voice.endpointing import Prediction
from voice.floor import FloorConfig, ModelKind, State
from voice.turns import FloorOutput, PredictEnd, ReleaseResponse, RequestResponse, TurnEvent


def test_an_answer_asked_for_in_advance_waits_for_the_decision() -> None:
    scene = Scene(FloorConfig(speculate_ms=240.0))
    scene.says(400)
    scene.quiet(240)
    assert scene.out[-1:] == [RequestResponse(1, speculative=True)]
    kinds: tuple[ModelKind, ...] = ("response_requested", "model_first_audio")
    for kind in kinds:
        (fact,) = scene.floor.model_event(scene.now_ms * MS, kind)
        assert isinstance(fact, TurnEvent)
        assert fact.reason == "speculative"
    assert events(scene.out, "endpoint_decided") == []
    scene.quiet(260)
    assert scene.out[-1:] == [ReleaseResponse(1)]
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


def test_the_models_word_ends_a_turn_in_noise_that_the_detector_takes_for_speech() -> None:
    scene = Scene(FloorConfig(endpointing="model"))
    for turn_id in (1, 2):
        scene.out.clear()
        scene.says(2_000)
        scene.out += scene.floor.turn_ended(scene.now_ms * MS, "server_vad")
        assert short(scene.out) == [
            ("user_speech_started", turn_id),
            ("user_speech_stopped", turn_id),
            ("endpoint_candidate", turn_id),
            ("endpoint_decided", turn_id),
            ("RequestResponse", turn_id),
        ]
        (decided,) = events(scene.out, "endpoint_decided")
        assert (decided.inputs["model_reason"], decided.inputs["overruled"]) == ("server_vad", True)
        assert scene.says(500) == []  # it goes on, and calls nothing off
        scene.agent_starts()
        assert scene.says(1_000) == []
        scene.agent_stops()
    scene.quiet(200)
    scene.says(100)
    assert not any("overruled" in event.inputs for event in events(scene.out, "user_speech_started")[1:])


def test_the_models_word_about_a_silence_that_the_user_has_broken_since_ends_nothing() -> None:
    scene = Scene(FloorConfig(endpointing="model"))
    scene.says(1_000)
    scene.quiet(600)
    scene.says(100)
    assert scene.floor.turn_ended(scene.now_ms * MS, "server_vad") == []
    assert scene.floor.state is State.USER_SPEAKING


def test_a_paused_agent_gives_up_its_rest_at_the_models_word_in_noise() -> None:
    scene = Scene(FloorConfig(endpointing="model")).answered()
    scene.says(1_500)
    scene.agent_stops("yielded")
    assert scene.floor.state is State.HOLDING
    got = scene.floor.turn_ended(scene.now_ms * MS, "server_vad")
    assert short(got)[-3:] == [("StopAgent", 1), ("endpoint_decided", 2), ("RequestResponse", 2)]
