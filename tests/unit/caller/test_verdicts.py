from __future__ import annotations

from typing import Any

import pytest

from relay.caller.verdicts import NOTHING, judge, utterance_at

MS = 1_000_000
T0 = 1_800_000_000_000_000_000
KINDS = ("late_response", "dead_air", "talk_over")


def call(*expected: tuple[int, str], **changes: Any) -> dict[str, Any]:
    return {
        "session_id": "a",
        "script": "late",
        "network": "perfect",
        "error": None,
        "expected": [{"turn": turn, "error": error} for turn, error in expected],
        "utterances": [{"start_ns": T0 + start * MS} for start in (0, 5000)],
    } | changes


def error(at_ms: int, kind: str, session: str = "a") -> dict[str, Any]:
    return {"session_id": session, "at_ns": T0 + at_ms * MS, "kind": kind}


def test_what_was_provoked_is_found_by_its_utterance() -> None:
    verdicts = judge(
        [call((1, "late_response"), (2, "dead_air"))], [error(1000, "late_response"), error(6000, "dead_air")], KINDS
    )
    assert (verdicts.tallies["late_response"].precision, verdicts.tallies["late_response"].recall) == (1.0, 1.0)
    assert verdicts.confusion == {("late_response", "late_response"): 1, ("dead_air", "dead_air"): 1}
    assert verdicts.odd == []
    assert verdicts.tallies["talk_over"].precision is None
    assert verdicts.tallies["talk_over"].recall is None


def test_one_for_another_is_confused_and_one_for_none_stands_alone() -> None:
    found = [error(1000, "dead_air"), error(1200, "dead_air"), error(6000, "talk_over")]
    verdicts = judge([call((1, "late_response"))], found, KINDS)
    assert verdicts.confusion == {("late_response", "dead_air"): 1, (NOTHING, "talk_over"): 1}
    assert verdicts.tallies["late_response"].recall == 0
    assert verdicts.tallies["dead_air"].precision == 0
    assert verdicts.odd == [
        ("late", "perfect", "a", 1, "late_response", "dead_air"),
        ("late", "perfect", "a", 2, NOTHING, "talk_over"),
    ]


def test_failed_calls_and_other_sessions_say_nothing() -> None:
    verdicts = judge(
        [call((1, "late_response"), error="busy")], [error(0, "dead_air"), error(0, "dead_air", "b")], KINDS
    )
    assert not verdicts.confusion


@pytest.mark.parametrize(("at_ms", "number"), [(-1000, 0), (-80, 1), (4800, 1), (4920, 2), (9000, 2)])
def test_an_error_belongs_to_the_last_utterance_begun(at_ms: int, number: int) -> None:
    assert utterance_at(call(), T0 + at_ms * MS) == number
