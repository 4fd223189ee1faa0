"""The neural detectors, with the weights that the extra brings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from relay.predictors import WeightsError, weights
from relay.predictors.features import SAMPLES, log_mel
from relay.predictors.silero import SileroVad
from relay.predictors.smart_turn import SmartTurn
from relay.speech import load
from relay.transceiver.decimate import Decimator
from voice.endpointing import Heard
from voice.vad import FRAME_SAMPLES, Pcm


def voice(name: str) -> Pcm:
    """A clip at 16 kHz in whole frames, half a second of silence on each side."""
    silence = np.zeros(24_000, np.int16)
    pcm = np.concatenate([silence, load(name).pcm, silence])
    decimate = Decimator()
    return np.stack([decimate(frame) for frame in pcm[: len(pcm) // 960 * 960].reshape(-1, 960)])


@pytest.mark.parametrize("seconds", [0.5, 8.0, 11.0])
def test_features_are_those_that_the_network_was_trained_with(seconds: float) -> None:
    path = weights.find("audio/turn/smart_turn/_whisper_features.py")
    spec = importlib.util.spec_from_file_location("reference_features", path)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    rng = np.random.default_rng(3)
    pcm = (rng.standard_normal(int(seconds * 16_000)) * 3_000).astype(np.int16)
    padded = np.zeros(SAMPLES, np.float32)
    padded[-min(pcm.size, SAMPLES) :] = pcm[-SAMPLES:] / np.float32(32_768)
    expected = reference.compute_whisper_log_mel_features(padded)
    assert log_mel(pcm).shape == expected.shape == (80, 800)
    np.testing.assert_allclose(log_mel(pcm), expected, atol=2e-4)


def test_smart_turn_tells_a_question_from_half_a_number() -> None:
    predictor = SmartTurn()
    question = predictor.predict(Heard(audio=voice("user_garage").reshape(-1)))
    pcm = voice("user_pause_number").reshape(-1)
    half = predictor.predict(Heard(audio=pcm[: int(2.3 * 16_000)]))
    assert question is not None
    assert half is not None
    assert question > predictor.threshold > half
    assert predictor.predict(Heard(text="no voice")) is None


def test_silero_hears_speech_and_no_noise() -> None:
    frames = voice("user_bill")
    vad = SileroVad()
    verdicts = np.array([vad.is_speech(frame) for frame in frames])
    assert not verdicts[:20].any()
    assert verdicts[30:-30].mean() > 0.9
    assert vad.probability is not None
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((200, FRAME_SAMPLES)) * 300).astype(np.int16)
    assert sum(vad.is_speech(frame) for frame in noise) <= 10


def test_two_calls_do_not_share_what_silero_remembers() -> None:
    frames = voice("user_bill")
    alone, first, second = SileroVad(), SileroVad(), SileroVad()
    expected = [alone.is_speech(frame) for frame in frames]
    found = []
    for frame in frames:
        found.append(first.is_speech(frame))
        second.is_speech(np.zeros(FRAME_SAMPLES, np.int16))
    assert found == expected


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing.onnx comes with the package pipecat-ai, which has no such file"):
        weights.find("nothing.onnx")
    weights.session.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"onnxruntime, which runs silero_vad.onnx.*pip install 'sidetone\[onnx\]'"):
        SileroVad()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="is not installed"):
        SmartTurn()
    weights.session.cache_clear()
