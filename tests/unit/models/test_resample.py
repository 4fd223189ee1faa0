from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from relay.models.protocol import Pcm
from relay.models.resample import Doubler, Halver


def tone(hertz: float, rate: int, ms: int = 1_000, peak: float = 16_000) -> Pcm:
    at = np.arange(rate * ms // 1000) / rate
    return (peak * np.sin(2 * np.pi * hertz * at)).astype(np.int16)


def in_frames(pcm: Pcm, size: int) -> list[Pcm]:
    return [pcm[at : at + size] for at in range(0, pcm.size, size)]


def level(pcm: npt.NDArray[np.int16]) -> float:
    """Root mean square in dB of a tone's with that peak, without the filter's onset."""
    return float(20 * np.log10(np.sqrt(np.mean(pcm[2_000:].astype(float) ** 2)) / (16_000 / np.sqrt(2)) + 1e-9))


@pytest.mark.parametrize("hertz", [100.0, 1_000.0, 4_000.0, 8_000.0])
def test_voice_passes_both_ways_as_it_is(hertz: float) -> None:
    halver, doubler = Halver(), Doubler()
    halved = np.concatenate([halver(frame) for frame in in_frames(tone(hertz, 48_000), 960)])
    assert halved.size == 24_000
    assert abs(level(halved)) < 0.1
    doubled = np.concatenate([doubler(frame) for frame in in_frames(halved, 777)])
    assert doubled.size == 48_000
    assert abs(level(doubled)) < 0.2


@pytest.mark.parametrize("hertz", [13_000.0, 16_000.0, 23_000.0])
def test_what_24_khz_cannot_carry_does_not_fold_back(hertz: float) -> None:
    assert level(Halver()(tone(hertz, 48_000))) < -65


def test_doubling_leaves_no_image() -> None:
    spectrum = np.abs(np.fft.rfft(Doubler()(tone(4_000, 24_000))[4_800:43_200].astype(float) * np.hanning(38_400)))
    hertz = np.fft.rfftfreq(38_400, 1 / 48_000)
    assert 20 * np.log10(spectrum[hertz > 13_000].max() / spectrum.max()) < -65


def test_pieces_of_any_size_give_the_same_samples() -> None:
    pcm = tone(700, 24_000, 200)
    whole = Doubler()(pcm)
    doubler = Doubler()
    assert np.array_equal(np.concatenate([doubler(piece) for piece in in_frames(pcm, 37)]), whole)
    halver, at_once = Halver(), Halver()(tone(700, 48_000, 200))
    assert np.array_equal(np.concatenate([halver(piece) for piece in in_frames(tone(700, 48_000, 200), 960)]), at_once)


def test_loudest_samples_do_not_wrap_around() -> None:
    square = np.repeat(np.array([32_767, -32_768] * 50, np.int16), 24)
    assert np.abs(Doubler()(square).astype(int)).max() <= 32_768
    assert np.sign(Doubler()(square)[400:440].astype(int)).tolist().count(0) <= 1
