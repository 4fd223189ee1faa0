"""The rule for silences, and the predictor that reads."""

from __future__ import annotations

import pytest

from voice.endpointing import Endpointer, Heard, Prediction
from voice.floor import FloorConfig
from voice.transcript import TranscriptPredictor, claims_floor


def test_a_silence_lasts_as_long_as_the_predictor_advises() -> None:
    config = FloorConfig(endpointing="predictor", endpoint_silence_ms=700, likely_silence_ms=250, threshold=0.6)
    rule = Endpointer(config)
    assert rule.question(80.0) is None
    question = rule.question(100.0)
    assert question is not None
    assert rule.question(120.0) is None
    assert rule.wanted_ms == 700
    for probability, wanted in ((0.6, 250.0), (0.59, 1_500.0), (None, 700.0)):
        assert rule.predicted(Prediction(question, probability, "oracle"))
        assert rule.wanted_ms == wanted


def test_what_was_said_of_one_silence_does_not_hold_for_the_next() -> None:
    rule = Endpointer(FloorConfig(endpointing="predictor"))
    question = rule.question(100.0)
    assert question is not None
    assert rule.predicted(Prediction(question, 0.9, "oracle"))
    rule.speech()
    assert (rule.probability, rule.asked, rule.wanted_ms) == (None, None, 500.0)
    assert not rule.predicted(Prediction(question, 0.9, "oracle"))
    rule.question(100.0)
    assert not rule.predicted(Prediction(question, 0.9, "oracle"))
    assert rule.late == 2


def test_only_a_rule_that_listens_to_the_model_does() -> None:
    for endpointing, wanted in (("model", 0.0), ("silence", 500.0)):
        rule = Endpointer(FloorConfig(endpointing=endpointing))  # type: ignore[arg-type]
        rule.ended_by_model("server_vad")
        assert rule.wanted_ms == wanted
        assert rule.question(200.0) is None


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("I would like to", False),
        ("The name on the card is", False),
        ("My number is five nine one", False),
        ("my number is 591 4", False),
        ("My number is five nine one four oh seven two", True),
        ("I would like to move my booking,", False),
        ("I would like to move my booking …", False),
        ("Where is my order now?", True),
        ("where is my order now", True),
        ("um", False),
        ("well", False),
        ("I would like to.", False),
    ],
)
def test_words_tell_whether_a_turn_is_over(text: str, over: bool) -> None:
    predictor = TranscriptPredictor()
    probability = predictor.predict(Heard(text=text))
    assert probability is not None
    assert (probability >= predictor.threshold) is over


def test_without_words_nothing_can_be_told() -> None:
    assert TranscriptPredictor().predict(Heard()) is None
    assert TranscriptPredictor().predict(Heard(text=" … ")) is None


def test_a_word_that_only_encourages_does_not_claim_the_floor() -> None:
    assert not any(claims_floor(text) for text in ("", "Mm-hm.", "Yeah.", "okay, right", "I see."))
    assert all(claims_floor(text) for text in ("Stop.", "Yeah but no", "wait"))
