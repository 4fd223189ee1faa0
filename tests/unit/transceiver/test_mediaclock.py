from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.mediaclock import STEP_PACKETS, MediaClock

FRAME = 960
FRAME_NS = 20_000_000
BASE_NS = 1_760_000_000_000_000_000
MS = 1_000_000


def feed(clock: MediaClock, delays_ms: list[float], *, first_ts: int = 0, drift_ppm: float = 0.0) -> None:
    """Packet k is complete at k + 1 frames by the wall clock, and then takes its delay."""
    for k, delay in enumerate(delays_ms):
        sent_ns = BASE_NS + round((k + 1) * FRAME_NS * (1 + drift_ppm / 1e6))
        clock.packet((first_ts + k * FRAME) % 2**32, FRAME, sent_ns + round(delay * MS))


def test_nothing_is_known_before_the_first_packet() -> None:
    assert MediaClock().at_ns(0) is None


@given(st.lists(st.floats(0, 200), min_size=1, max_size=200), st.integers(0, 2**32 - 1))
def test_maps_by_the_least_delayed_packet_whatever_the_jitter(delays: list[float], first_ts: int) -> None:
    clock = MediaClock()
    feed(clock, delays, first_ts=first_ts)
    last = len(delays) - 1
    at = clock.at_ns((first_ts + last * FRAME) % 2**32)
    assert at is not None
    assert abs(at - (BASE_NS + last * FRAME_NS + min(delays) * MS)) <= 1000
    assert clock.audio_ms((first_ts + last * FRAME) % 2**32) == last * 20


def test_drift_is_followed_over_a_quarter_of_an_hour() -> None:
    rng = np.random.default_rng(1)
    count = 45_000
    clock = MediaClock()
    feed(clock, [float(d) for d in 30 + rng.exponential(5.0, count)], drift_ppm=50.0)
    at = clock.at_ns((count - 1) * FRAME)
    true = BASE_NS + round((count - 1) * FRAME_NS * (1 + 50e-6)) + 30 * MS
    assert at is not None
    # The window is 30 s: 50 ppm of it are 1.5 ms; the rest of 45 ms that piled up is gone.
    assert abs(at - true) < 2 * MS


def test_one_very_late_packet_changes_nothing_and_a_lasting_step_is_followed() -> None:
    clock = MediaClock()
    feed(clock, [20.0] * 100 + [5000.0] + [20.0] * 10)
    at = clock.at_ns(0)
    assert at is not None
    assert abs(at - (BASE_NS + 20 * MS)) <= 1000
    clock = MediaClock()
    feed(clock, [20.0] * 100 + [5000.0] * (STEP_PACKETS + 1))
    at = clock.at_ns(0)
    assert at is not None
    assert abs(at - (BASE_NS + 5000 * MS)) <= 1000


def test_drift_is_followed_over_minutes_in_which_nothing_came() -> None:
    clock = MediaClock()
    feed(clock, [30.0] * 100, drift_ppm=50.0)
    muted = 45_000  # a quarter of an hour: 45 ms
    for k in range(100 + muted, 250 + muted):
        sent_ns = BASE_NS + round((k + 1) * FRAME_NS * (1 + 50e-6))
        clock.packet(k * FRAME % 2**32, FRAME, sent_ns + 30 * MS)
    at = clock.at_ns((249 + muted) * FRAME)
    assert at is not None
    assert abs(at - (BASE_NS + round((249 + muted) * FRAME_NS * (1 + 50e-6)) + 30 * MS)) < MS
