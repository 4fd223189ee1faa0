from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import Answer, BadParameterError, Column
from analytics.parameters import bind, time_ns, time_text
from analytics.question import question

NOW = 1_772_445_600_123_456_789
HOUR = 3_600_000_000_000


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", NOW),
        ("now-1h", NOW - HOUR),
        ("now + 2d", NOW + 48 * HOUR),
        (str(NOW), NOW),
        (NOW, NOW),
        ("2026-03-02T10:00:00.123456789Z", NOW),
        ("2026-03-02 10:00:00.123456789", NOW),
        ("2026-03-02T11:00:00.5+01:00", NOW - 123_456_789 + 500_000_000),
        ("2026-03-02", NOW - 10 * HOUR - 123_456_789),
        (datetime(2026, 3, 2, 10, tzinfo=UTC), NOW - 123_456_789),
        (datetime(2026, 3, 2, 12, tzinfo=timezone(timedelta(hours=2))), NOW - 123_456_789),
    ],
)
def test_times(said: object, meant: int) -> None:
    assert time_ns(said, NOW) == meant


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_times_survive_the_way_through_text(at_ns: int) -> None:
    assert time_ns(time_text(at_ns), 0) == at_ns


@pytest.mark.parametrize(
    ("given_params", "complaint"),
    [
        ({"from": "yesterday"}, "from is 'yesterday'"),
        ({"from": True}, "from is True"),
        ({"total": "perhaps"}, "neither true nor false"),
        ({"form": "now"}, "does not know form"),
        ({"from": "now", "to": "now"}, "must lie before"),
    ],
)
def test_what_is_wrong_is_said(given_params: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadParameterError, match=complaint):
        bind(question("overview"), given_params, NOW)


def test_defaults_and_lists() -> None:
    bound = bind(question("overview"), {"region": "eu-west, us-east"}, NOW)
    assert bound == {
        "from": "2026-03-02 09:00:00.123456789",
        "to": "2026-03-02 10:00:00.123456789",
        "region": ["eu-west", "us-east"],
        "total": False,
    }


@pytest.mark.parametrize(("limit", "complaint"), [(-1, "negative"), (2**32 + 1, "above 4294967295")])
def test_a_limit_that_the_store_would_take_for_another_is_refused(limit: int, complaint: str) -> None:
    with pytest.raises(BadParameterError, match=complaint):
        bind(question("sessions"), {"limit": limit}, NOW)


@pytest.mark.parametrize("said", ["0001-01-01", "1899-12-31", "2262-01-01", "9999-12-31", 2**63])
def test_a_time_that_the_store_does_not_hold_is_refused(said: object) -> None:
    with pytest.raises(BadParameterError, match="years 1900 to 2261"):
        bind(question("overview"), {"from": said, "to": "2200-01-01"}, NOW)


def test_a_session_id_that_is_none_is_refused_and_an_empty_one_stands_for_all() -> None:
    with pytest.raises(BadParameterError, match="session is 'nonsense', which is no UUID"):
        bind(question("legs"), {"session": "nonsense"}, NOW)
    assert bind(question("legs"), {"session": " "}, NOW)["session"] == ""
    known = "019cae13-8200-7000-8000-000000000018"
    assert bind(question("legs"), {"session": known.upper()}, NOW)["session"] == known


def test_an_answer_as_json_has_null_for_what_json_cannot_say() -> None:
    columns = (Column("a", "ms", "A."), Column("b", "names", "B."))
    answer = Answer("n", "T", columns, [(float("nan"), {"k": [1, None]}), (NOW, {})], {"region": ["x"]})
    assert json.loads(json.dumps(answer.to_json(), allow_nan=False))["rows"] == [[None, {"k": [1, None]}], [NOW, {}]]
    assert answer.records()[1] == {"a": NOW, "b": {}}
    assert answer.column("a")[1] == NOW
    with pytest.raises(KeyError):
        answer.column("c")
