"""Time-stretching: lengths, pitch, level, and when it would rather not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.stretch import ALIKE, LAG_MAX, LAG_MIN, NEEDED, OVERLAP, cut, lengthen, shorten

RATE = 48_000


def tone(hertz: float, samples: int = 2000, amplitude: float = 8000.0) -> np.ndarray:
    at = np.arange(samples) / RATE
    return (amplitude * (np.sin(2 * np.pi * hertz * at) + 0.4 * np.sin(4 * np.pi * hertz * at))).astype(np.int16)


@pytest.mark.parametrize("hertz", [75, 110, 160, 220, 330])
def test_whole_periods_are_taken_out_and_put_in(hertz: int) -> None:
    pcm = tone(hertz)
    period = RATE / hertz
    for changed in (shorten(pcm), lengthen(pcm)):
        lag = abs(len(pcm) - len(changed))
        assert LAG_MIN <= lag <= LAG_MAX
        assert abs(lag / period - round(lag / period)) < 0.05
        # The wave goes on without a step: no two samples differ by more than those of the tone itself.
        assert np.abs(np.diff(changed.astype(np.int32))).max() <= np.abs(np.diff(pcm.astype(np.int32))).max() * 1.3


def test_what_is_not_like_itself_is_left_alone() -> None:
    noise = np.random.default_rng(1).normal(0, 5000, 2000).astype(np.int16)
    assert shorten(noise) is noise
    assert lengthen(noise) is noise
    assert len(shorten(noise, alike=0.0)) < len(noise)


def test_near_silence_gives_way_at_once() -> None:
    pcm = np.random.default_rng(1).normal(0, 5, 2000).astype(np.int16)
    assert len(shorten(pcm)) == len(pcm) - LAG_MAX


def test_too_little_is_left_alone() -> None:
    pcm = tone(200, NEEDED - 1)
    assert shorten(pcm) is pcm


def test_a_cut_takes_the_beginning_and_leaves_no_click() -> None:
    pcm = np.concatenate((np.full(960, 100, np.int16), np.full(960, -100, np.int16)))
    short = cut(pcm, 960)
    assert len(short) == 960
    assert np.abs(np.diff(short)).max() <= 2
    assert (short[OVERLAP:] == -100).all()
    assert len(cut(pcm, 1900)) == 20


@settings(deadline=None)
@given(st.binary(min_size=2 * NEEDED, max_size=3 * NEEDED), st.floats(0, 1))
def test_any_sound_keeps_its_tail_and_its_range(data: bytes, alike: float) -> None:
    pcm = np.frombuffer(data[: len(data) // 2 * 2], np.int16)
    for changed in (shorten(pcm, alike), lengthen(pcm, alike)):
        assert abs(len(changed) - len(pcm)) in {0, *range(LAG_MIN, LAG_MAX + 1)}
        tail = len(pcm) - NEEDED
        assert tail == 0 or (changed[-tail:] == pcm[-tail:]).all()
    assert ALIKE < 1
