"""What a sender makes of receiver reports, once a second."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from voice.sender import LOSS_STEPS, PTIMES_MS, Decision, Report, Sender, SenderConfig

SECOND = 1_000_000_000


def told(sender: Sender, reports: Iterable[tuple[float, float | None]], start_s: int = 1) -> list[Decision]:
    """Give reports of (loss, round trip) a second apart."""
    made = [
        sender.report(Report((start_s + second) * SECOND, loss, rtt_ms, 3.0))
        for second, (loss, rtt_ms) in enumerate(reports)
    ]
    return [decision for decision in made if decision is not None]


def test_redundancy_goes_when_nothing_is_lost_and_comes_with_the_first_losses() -> None:
    sender = Sender()
    assert sender.settings.fec
    (gone,) = told(sender, [(0.0, 50.0)] * 15)
    assert not gone.after.fec
    assert gone.after.bitrate_bps == 32_000
    (back,) = told(sender, [(0.05, 50.0)] * 1, start_s=20)
    assert back.after.fec
    assert back.after.expected_loss_percent == 5


def test_loss_around_a_threshold_does_not_make_it_flap() -> None:
    sender = Sender()
    decisions = told(sender, [(0.0, 50.0), (0.02, 50.0)] * 60)
    assert len(decisions) <= 2
    assert sender.settings.fec


def test_the_encoder_expects_more_at_once_and_less_slowly() -> None:
    sender = Sender()
    told(sender, [(0.2, 50.0)] * 3)
    assert sender.settings.expected_loss_percent == 20
    told(sender, [(0.03, 50.0)] * 5, start_s=4)
    assert sender.settings.expected_loss_percent == 20
    told(sender, [(0.03, 50.0)] * 60, start_s=9)
    assert sender.settings.expected_loss_percent == 5


def test_a_queue_on_the_way_takes_bit_rate_and_loss_alone_does_not() -> None:
    lossy = Sender()
    told(lossy, [(0.05, 50.0)] * 60)
    assert lossy.settings.bitrate_bps == 32_000
    queued = Sender()
    told(queued, [(0.0, 50.0)] * 3 + [(0.0, 300.0)] * 20)
    assert queued.settings.bitrate_bps < 16_000
    low = queued.settings.bitrate_bps
    told(queued, [(0.0, 60.0)] * 20, start_s=30)
    assert low < queued.settings.bitrate_bps < 32_000
    told(queued, [(0.0, 60.0)] * 200, start_s=60)
    assert queued.settings.bitrate_bps == 32_000


def test_packets_get_longer_only_at_the_lowest_rate_and_only_where_allowed() -> None:
    queue = [(0.0, 50.0)] * 3 + [(0.0, 300.0)] * 60
    allowed, short = Sender(), Sender(SenderConfig(max_ptime_ms=20))
    decisions = told(allowed, queue)
    longer = [decision for decision in decisions if decision.after.ptime_ms > decision.before.ptime_ms]
    assert [decision.after.ptime_ms for decision in longer] == [40, 60]
    assert all(decision.after.bitrate_bps == 12_000 for decision in longer)
    told(short, queue)
    assert short.settings.ptime_ms == 20
    told(allowed, [(0.0, 60.0)] * 30, start_s=100)
    assert allowed.settings.ptime_ms == 20


def test_a_longer_way_after_a_change_of_networks_is_no_queue_for_ever() -> None:
    sender = Sender()
    told(sender, [(0.0, 20.0)] * 60 + [(0.0, 140.0)] * 120)
    assert sender.settings.bitrate_bps < 32_000  # for all that was known it might have been a queue
    told(sender, [(0.0, 140.0)] * 120, start_s=181)
    assert (sender.settings.bitrate_bps, sender.settings.ptime_ms) == (32_000, 20)
    assert told(sender, [(0.0, 300.0)] * 5, start_s=301)  # and this is one again


def test_a_fixed_sender_stays_as_it_is() -> None:
    assert told(Sender(SenderConfig(adapt=False)), [(0.5, 900.0)] * 50) == []


def test_a_decision_carries_what_it_rests_on() -> None:
    (decision,) = told(Sender(), [(0.2, 50.0)])
    fact = json.loads(json.dumps(decision.as_fact()))
    assert fact["inputs"]["fraction_lost"] == 0.2
    assert fact["before"]["expected_loss_percent"] == 5
    assert fact["after"]["expected_loss_percent"] == 10


@given(
    st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 5000)), max_size=200),
    st.sampled_from([20, 30, 40, 60, 120]),
)
def test_settings_stay_within_bounds_and_decisions_follow_one_another(
    reports: list[tuple[float, float | None]], max_ptime_ms: int
) -> None:
    sender = Sender(SenderConfig(max_ptime_ms=max_ptime_ms))
    settings = sender.settings
    for decision in told(sender, reports):
        assert decision.before == settings
        settings = decision.after
        assert settings != decision.before
        assert 12_000 <= settings.bitrate_bps <= 32_000
        assert settings.expected_loss_percent in LOSS_STEPS
        assert settings.fec == (settings.expected_loss_percent > 0)
        assert settings.ptime_ms in PTIMES_MS
        assert settings.ptime_ms <= max(20, max_ptime_ms)
    assert sender.settings == settings
