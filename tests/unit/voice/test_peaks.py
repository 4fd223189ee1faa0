"""Long delays: which of them are expected again."""

from __future__ import annotations

from voice.peaks import Peaks

MS = 1_000_000
S = 1_000 * MS


def after(*spikes: tuple[float, float], end_s: float) -> float:
    """Have packets undelayed every 20 ms but for `spikes` (at s, delay ms) until `end_s`; what is expected then."""
    peaks = Peaks()
    late = {round(at_s * 50): delay_ms for at_s, delay_ms in spikes}
    for tick in range(round(end_s * 50)):
        peaks.observe(round(late.get(tick, 0.0) * MS), tick * 20 * MS)
    return peaks.expected_ms


def test_a_single_stall_is_not_expected_again() -> None:
    assert after((5, 300), end_s=6) == 0.0
    assert after((5, 300), (5.1, 200), (5.9, 290), end_s=7) == 0.0  # one, as it goes by


def test_what_came_back_is_expected_until_it_has_stayed_away() -> None:
    spikes = ((5, 300), (12, 280))
    assert after(*spikes, end_s=13) == 280.0
    assert after(*spikes, end_s=39) == 280.0
    assert after(*spikes, end_s=45) == 0.0  # twice in 45 s is not once in 20 s
    assert after(*spikes, end_s=90) == 0.0


def test_a_longer_spike_that_is_rare_does_not_count() -> None:
    often = tuple((at_s, 150.0) for at_s in range(2, 60, 6))
    assert after(*often, (30.5, 400), end_s=60) == 150.0


def test_jitter_that_is_no_spike_is_left_to_the_quantile() -> None:
    assert after(*((at_s, 90.0) for at_s in range(2, 60, 3)), end_s=60) == 0.0
