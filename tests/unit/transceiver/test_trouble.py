"""What may be a bad turn is noticed as it happens, and told at most once a second."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.trouble import EVERY_NS, Trouble
from voice.turns import TurnEvent

MS = 1_000_000
T0 = 1_790_000_000_000 * MS


def event(kind: str, at_ms: int = 0, reason: str | None = None) -> TurnEvent:
    return TurnEvent(kind, "system", 1, T0 + at_ms * MS, reason=reason)


@pytest.mark.parametrize("kind", ["agent_yielded", "agent_resumed", "user_barged_in", "endpoint_revoked"])
def test_what_may_be_a_bad_turn_is_told_at_once(kind: str) -> None:
    trouble = Trouble(2500)
    trouble.turn(event(kind))
    assert trouble.due(T0) == kind
    assert trouble.due(T0 + EVERY_NS) is None


def test_answers_that_fail_or_starve() -> None:
    trouble = Trouble(2500)
    trouble.turn(event("agent_audio_stopped", reason="completed"))
    trouble.turn(event("endpoint_revoked", reason="speculative"))
    assert trouble.due(T0) is None
    trouble.turn(event("agent_audio_stopped", reason="error"))
    assert trouble.due(T0) == "failed"
    trouble.starved()
    assert trouble.due(T0 + EVERY_NS - 1) is None
    assert trouble.due(T0 + EVERY_NS) == "starved"


def test_a_late_answer_is_noticed_once() -> None:
    trouble = Trouble(2500)
    trouble.turn(event("user_speech_stopped", 1000))
    assert trouble.due(T0 + 3499 * MS) is None
    assert trouble.due(T0 + 3500 * MS) == "late"
    assert trouble.due(T0 + 9000 * MS) is None


@pytest.mark.parametrize("then", ["agent_audio_started", "user_speech_started"])
def test_nobody_waits_for_an_answer_that_came_or_a_user_who_goes_on(then: str) -> None:
    trouble = Trouble(2500)
    trouble.turn(event("user_speech_stopped", 0))
    trouble.turn(event(then, 500))
    assert trouble.due(T0 + 5000 * MS) is None


def test_a_backchannel_is_owed_no_answer() -> None:
    trouble = Trouble(2500)
    for kind in ("agent_audio_started", "user_speech_started", "user_speech_stopped"):
        trouble.turn(event(kind))
    assert trouble.due(T0 + 5000 * MS) is None


@given(st.lists(st.integers(0, 400 * MS), max_size=200))
def test_at_most_one_a_second_and_the_last_is_never_forgotten(gaps: list[int]) -> None:
    trouble, now, told = Trouble(2500), T0, []
    for gap in gaps:
        now += gap
        trouble.starved()
        if trouble.due(now):
            told.append(now)
    assert all(later - earlier >= EVERY_NS for earlier, later in itertools.pairwise(told))
    if gaps and told[-1] != now:
        assert trouble.due(told[-1] + EVERY_NS) == "starved"
