from __future__ import annotations

from typing import Any

import pytest

from relay.caller.truth import compare, quantile

MS = 1_000_000
T0 = 1_800_000_000_000_000_000


def at(ms: float) -> int:
    return T0 + round(ms * MS)


def call(session: str, *turns: tuple[float, float, float, float | None]) -> dict[str, Any]:
    """A call of (speech starts, speech ends, answer heard from, until), in ms."""
    return {
        "session_id": session,
        "utterances": [{"spans": [[at(starts), at(ends)]]} for starts, ends, _, _ in turns],
        "answers": [
            {
                "heard_start_ns": at(heard),
                "heard_end_ns": None if until is None else at(until),
                "kind": "normal",
                "user_end_ns": at(ends),
            }
            for _, ends, heard, until in turns
        ],
    }


def turn(session: str, turn_id: int, stopped: float | None, started: float | None, **known: Any) -> dict[str, Any]:
    return {
        "session_id": session,
        "turn_id": turn_id,
        "user_speech_stopped_ns": None if stopped is None else at(stopped),
        "agent_audio_started_ns": None if started is None else at(started),
        "listener_ms": None,
        **known,
    }


def test_latencies_of_matched_turns_are_compared() -> None:
    calls = [call("a", (0, 1000, 1800, 4000), (5000, 6000, 6900, 9000))]
    turns = [
        turn("a", 1, 1040, 1700, one_way_ms=40.0, playout_ms=60.0, listener_ms=795.0),
        turn("a", 2, 6040, 6800, one_way_ms=40.0, playout_ms=60.0, listener_ms=920.0),
    ]
    result = compare(calls, turns)
    assert [(match.turn_id, match.answer, match.heard_ms, match.error_ms) for match in result.matches] == [
        (1, 0, 800.0, -5.0),
        (2, 1, 900.0, 20.0),
    ]
    assert result.to_dict() == {
        "heard": 2,
        "matched": 2,
        "continued": 0,
        "missed": 0,
        "unheard": 0,
        "graded": 2,
        "error_ms": {"p50": 20.0, "p95": 20.0, "max": 20.0},
        "bias_ms": 20.0,
    }


def test_what_one_side_alone_has_is_counted_on_its_side() -> None:
    calls = [call("a", (0, 1000, 1800, 4000), (5000, 6000, 6900, 9000)), call("b", (0, 500, 900, 1500))]
    turns = [turn("a", 1, 1040, 1700), turn("a", 2, 20_000, 21_000), turn("a", 3, 30_000, None), turn("c", 1, 0, 900)]
    result = compare(calls, turns)
    assert (result.heard, result.matched, result.missed, result.unheard) == (3, 1, 2, 1)


def test_a_turn_that_was_not_measured_whole_is_matched_but_not_graded() -> None:
    result = compare([call("a", (0, 1000, 1800, 4000))], [turn("a", 1, 1040, 1700)])
    assert (result.matched, result.graded) == (1, 0)
    assert result.error_ms == {"p50": None, "p95": None, "max": None}
    assert result.bias_ms is None


def test_turn_numbers_do_not_decide_what_belongs_together() -> None:
    calls = [call("a", (0, 1000, 1800, 4000), (5000, 6000, 6900, 9000))]
    turns = [turn("a", 9, 6000, 6850), turn("a", 4, 1000, 1750)]
    assert [(match.answer, match.turn_id) for match in compare(calls, turns).matches] == [(0, 4), (1, 9)]


def test_a_second_stretch_of_one_answer_is_not_missed() -> None:
    [broken] = [call("a", (0, 1000, 1800, 2500), (1900, 2400, 2700, 4000))]
    result = compare([broken], [turn("a", 1, 1000, 1750, agent_audio_stopped_ns=at(3950))])
    assert (result.matched, result.continued, result.missed) == (1, 1, 0)


def test_no_answer_and_no_turn_is_matched_twice() -> None:
    calls = [call("a", (0, 1000, 1800, 4000))]
    turns = [turn("a", 1, 1000, 1700), turn("a", 2, 1000, 1790)]
    result = compare(calls, turns)
    assert [match.turn_id for match in result.matches] == [2]
    assert result.unheard == 1


def test_the_caller_waited_from_its_own_last_word_whatever_the_platform_took_for_it() -> None:
    heard = {"heard_start_ns": at(1900), "heard_end_ns": at(2300), "kind": "normal", "user_end_ns": at(1000)}
    spoken = {"session_id": "a", "utterances": [{"spans": [[at(0), at(600)], [at(850), at(1000)]]}]}
    swallowed = turn("a", 1, 630, 1800, one_way_ms=30.0, listener_ms=1270.0)
    [match] = compare([spoken | {"answers": [heard]}], [swallowed]).matches
    assert (match.heard_ms, match.error_ms) == (900.0, 370.0)
    [match] = compare([spoken | {"answers": [heard | {"kind": "cut-in"}]}], [swallowed]).matches
    assert (match.heard_ms, match.error_ms) == (None, None)


def test_an_answer_that_the_call_ended_in_is_matched_by_its_beginning() -> None:
    result = compare([call("a", (0, 1000, 1800, None))], [turn("a", 1, 1000, 1700)])
    assert result.matched == 1


def test_an_answer_long_before_or_after_is_another() -> None:
    assert compare([call("a", (0, 1000, 1800, 4000))], [turn("a", 1, 4300, 4900)]).matched == 0
    assert compare([call("a", (0, 1000, 1800, 4000))], [turn("a", 1, 0, 500)]).matched == 0


def test_a_call_that_was_never_answered_has_nothing() -> None:
    result = compare([{"session_id": None, "utterances": [], "answers": []}], [turn("a", 1, 0, 500)])
    assert (result.heard, result.matched, result.unheard) == (0, 0, 0)


@pytest.mark.parametrize(("q", "expected"), [(0.5, 3), (0.95, 4), (1.0, 4), (0.25, 2), (0.0, 1)])
def test_quantiles_are_values_of_the_sample(q: float, expected: float) -> None:
    assert quantile([1, 2, 3, 4], q) == expected
    assert quantile([], q) is None
