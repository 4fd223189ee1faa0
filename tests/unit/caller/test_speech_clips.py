from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from relay.speech import SpeechError, load, load_wav, names
from relay.speech.clip import CLIPS, RATE, SPEECH_DBOV, WINDOW, level, voiced_edges

BYTES_MAX = 1_500_000


def write_wav(path: Path, pcm: np.ndarray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())
    return path


def tone(seconds: float, rate: int, amplitude: float = 3000.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def test_there_are_enough_clips_of_every_use() -> None:
    assert len(names("user_")) >= 8
    assert len(names("user_pause_")) >= 2
    assert len(names("agent_")) >= 8
    assert len(names("backchannel_")) >= 2
    assert len(names("interrupt_")) >= 2
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) < BYTES_MAX
    assert sorted(path.stem for path in CLIPS.iterdir()) == names()


@pytest.mark.parametrize("name", names())
def test_a_clip_is_voiced_at_both_ends_and_as_loud_as_the_others(name: str) -> None:
    clip = load(name)
    assert clip.pcm.dtype == np.int16
    assert voiced_edges(clip.pcm) == (0, len(clip.pcm))
    power = np.square(clip.pcm.astype(np.float64).reshape(-1, WINDOW)).mean(axis=1)
    active = power[power > power.max() / 1000].mean()
    assert 10 * np.log10(active / 32768**2) == pytest.approx(SPEECH_DBOV, abs=0.3)
    assert not clip.pcm.flags.writeable


def test_clips_last_as_long_as_their_use_wants() -> None:
    for name in names("agent_"):
        assert 2_000 < load(name).duration_ms < 5_000
    for name in names("backchannel_"):
        assert load(name).duration_ms < 600
    for name in names("user_"):
        assert 1_000 < load(name).duration_ms < 3_500


def test_an_unknown_clip_is_refused_with_the_known_names() -> None:
    with pytest.raises(SpeechError, match="user_weather"):
        load("user_nobody")


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 1), (48_000, 2)])
def test_a_recording_of_any_rate_is_trimmed_to_its_speech(tmp_path: Path, rate: int, channels: int) -> None:
    quiet = np.zeros(rate // 2, np.int16)
    mono = np.concatenate([quiet, tone(1.0, rate), quiet])
    pcm = mono if channels == 1 else np.stack([mono] * channels, axis=1)
    clip = load_wav(write_wav(tmp_path / "mine.wav", pcm, rate))
    assert clip.name == "mine"
    assert clip.duration_ms == pytest.approx(1000, abs=2 * WINDOW * 1000 / RATE)


def test_a_silent_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="silent"):
        load_wav(write_wav(tmp_path / "silent.wav", np.zeros(16_000, np.int16), 16_000))


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("these are notes")
    with pytest.raises(SpeechError, match=r"notes\.wav"):
        load_wav(path)
    with pytest.raises(SpeechError, match="nothing"):
        load_wav(tmp_path / "nothing.wav")


def test_a_recording_longer_than_two_minutes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="longer"):
        load_wav(write_wav(tmp_path / "long.wav", tone(121, 8_000), 8_000))


def test_silence_has_no_level_and_no_edges() -> None:
    assert level(np.zeros(RATE, np.int16)) is None
    assert level(np.zeros(0, np.int16)) is None
    assert voiced_edges(np.zeros(RATE, np.int16)) is None
