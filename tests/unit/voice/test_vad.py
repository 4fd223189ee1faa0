"""Detectors and levels on signals whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from voice.vad import FRAME_SAMPLES, MIN_DBOV, SAMPLE_RATE, EnergyVad, Pcm, Vad, WebRtcVad, level_dbov


def tone(amplitude: float, hz: float = 250.0, samples: int = SAMPLE_RATE) -> Pcm:
    pcm: Pcm = np.rint(amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / SAMPLE_RATE)).astype(np.int16)
    return pcm


def vowel(samples: int) -> Pcm:
    """A 120 Hz buzz shaped by two formants: enough of a voice for a detector."""
    at = np.arange(samples) / SAMPLE_RATE
    harmonics = 120.0 * np.arange(1, 40)
    weights = 1 / (1 + ((harmonics - 650) / 120) ** 2) + 0.5 / (1 + ((harmonics - 1100) / 150) ** 2)
    buzz = (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * at)).sum(0)
    pcm: Pcm = np.rint(8000 * buzz / np.abs(buzz).max()).astype(np.int16)
    return pcm


def test_levels_of_rfc_6464() -> None:
    square = np.where(np.arange(FRAME_SAMPLES) % 2, 32767, -32767).astype(np.int16)
    assert level_dbov(square) == pytest.approx(0.0, abs=1e-9)
    assert level_dbov(tone(32767)) == pytest.approx(-3.01, abs=0.01)
    assert level_dbov(tone(3276.7)) == pytest.approx(-23.01, abs=0.01)
    assert level_dbov(np.zeros(FRAME_SAMPLES, np.int16)) == MIN_DBOV
    assert level_dbov(np.zeros(0, np.int16)) == MIN_DBOV


def test_a_level_never_exceeds_the_overload_point() -> None:
    assert level_dbov(np.full(FRAME_SAMPLES, -32768, np.int16)) == 0.0


@pytest.mark.parametrize("vad", [WebRtcVad(), EnergyVad()], ids=lambda vad: str(vad.name))
def test_silence_is_not_speech_and_a_vowel_is(vad: Vad) -> None:
    pcm = np.concatenate([np.zeros(SAMPLE_RATE, np.int16), vowel(SAMPLE_RATE), np.zeros(SAMPLE_RATE, np.int16)])
    verdicts = np.array([vad.is_speech(frame) for frame in pcm.reshape(-1, FRAME_SAMPLES)])
    assert not verdicts[:50].any()
    assert verdicts[52:100].all()
    assert not verdicts[100 + 8 :].any()


def test_hangover_explains_the_late_end_of_webrtcvad() -> None:
    vad = WebRtcVad(2)
    pcm = np.concatenate([vowel(SAMPLE_RATE), np.zeros(SAMPLE_RATE, np.int16)])
    verdicts = [vad.is_speech(frame) for frame in pcm.reshape(-1, FRAME_SAMPLES)]
    last_ms = 20 * (1 + max(index for index, speech in enumerate(verdicts) if speech))
    assert last_ms - vad.hangover_ms == pytest.approx(1000, abs=30)


@pytest.mark.parametrize("dbov", [-40, -50, -60])
def test_noise_at_a_calls_start_is_not_speech(dbov: int) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.standard_normal((50, FRAME_SAMPLES)) * 32_767 * 10 ** (dbov / 20)).astype(np.int16)
    vad = WebRtcVad(2)
    assert not any(vad.is_speech(frame) for frame in noise)


def test_energy_has_no_hangover() -> None:
    vad = EnergyVad(-50.0)
    loud, quiet = tone(1000, samples=FRAME_SAMPLES), np.zeros(FRAME_SAMPLES, np.int16)
    assert [vad.is_speech(frame) for frame in (quiet, loud, quiet)] == [False, True, False]
    assert vad.hangover_ms == 0.0


def test_names_carry_the_settings() -> None:
    assert WebRtcVad(3).name == "webrtcvad:3"
    assert EnergyVad(-42.5).name == "energy:-42.5"


@pytest.mark.parametrize("vad", [WebRtcVad(), EnergyVad()], ids=lambda vad: str(vad.name))
@pytest.mark.parametrize(
    "frame", [np.zeros(160, np.int16), np.zeros(FRAME_SAMPLES, np.float32), np.zeros((1, 320), np.int16)]
)
def test_other_frames_are_refused(vad: Vad, frame: Pcm) -> None:
    with pytest.raises(ValueError, match="int16 of shape"):
        vad.is_speech(frame)


def test_there_are_four_modes() -> None:
    with pytest.raises(ValueError, match="0 to 3, not 4"):
        WebRtcVad(4)
