from __future__ import annotations

import numpy as np
import pytest

from relay.caller.phrases import SILENCE_DBOV, phrase, silence, voiced_spans
from relay.opus import FRAME_SAMPLES, Decoder
from relay.speech import Clip, load, names


def decoded(frames: list[bytes]) -> np.ndarray:
    decoder = Decoder()
    return np.concatenate([decoder.decode(frame) for frame in frames])


@pytest.mark.parametrize("name", ["user_weather", "agent_table", "backchannel_yeah"])
def test_packets_decode_to_the_clip_with_no_delay(name: str) -> None:
    clip = load(name)
    pcm = decoded([frame.payload for frame in phrase(clip).frames])
    assert len(pcm) == -(-len(clip.pcm) // FRAME_SAMPLES) * FRAME_SAMPLES
    size = 1 << 19
    correlation = np.fft.irfft(np.fft.rfft(pcm, size) * np.conj(np.fft.rfft(clip.pcm, size)))
    lag = int(np.argmax(correlation))
    assert min(lag, size - lag) <= 12  # a quarter of a millisecond


def test_levels_tell_speech_from_silence() -> None:
    levels = [frame.level_dbov for frame in phrase(load("user_pause_change")).frames]
    assert max(levels) > -25
    assert min(levels) < -80
    assert silence().level_dbov == SILENCE_DBOV
    assert np.abs(decoded([silence().payload] * 5)).max() < 10


@pytest.mark.parametrize("name", names("user_"))
def test_only_hesitant_questions_have_pauses(name: str) -> None:
    spans = phrase(load(name)).spans
    assert spans[0][0] == 0
    assert spans[-1][1] == len(load(name).pcm)
    assert len(spans) == (2 if name.startswith("user_pause_") else 1)


def test_spans_are_exact_to_the_window() -> None:
    pcm = np.zeros(48_000, np.int16)
    pcm[2_400:9_600] = 5_000
    pcm[14_400:24_000] = 5_000  # 100 ms later: the same stretch
    pcm[36_000:40_800] = 5_000  # 250 ms later: another
    assert voiced_spans(pcm) == ((2_400, 24_000), (36_000, 40_800))
    assert voiced_spans(np.zeros(960, np.int16)) == ()


def test_a_clip_that_ends_within_a_frame_is_filled_up_with_silence() -> None:
    pcm = np.full(FRAME_SAMPLES + 120, 5_000, np.int16)
    made = phrase(Clip("short", "", "", pcm))
    assert len(made.frames) == 2
    assert made.spans == ((0, FRAME_SAMPLES + 120),)
