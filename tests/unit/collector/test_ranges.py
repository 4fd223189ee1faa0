"""Whole messages become ranges, in order, without gap or overlap; a pending range is always the same again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import CollectorHaltedError, Intent, Planner, Range
from eventlog.port import Message, TopicPartition

WHERE = TopicPartition("sidetone.packets", 3)
OTHER = TopicPartition("sidetone.turns", 0)


def message(offset: int, rows: int = 1, size: int = 1, where: TopicPartition = WHERE) -> Message:
    return Message(where, offset, b"x" * size, {"rows": str(rows)}, None, 0)


def planner(max_rows: int = 100, max_bytes: int = 1000, max_age_s: float = 0.5, ripe_bytes: int = 900) -> Planner:
    return Planner("e1", max_rows=max_rows, max_bytes=max_bytes, max_age_s=max_age_s, ripe_bytes=ripe_bytes)


def offsets(source: Range) -> list[int]:
    return [message.offset for message in source.messages]


sizes = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 500)), min_size=1, max_size=40)


@st.composite
def batches(draw: st.DrawFn, start: int = 0) -> list[list[Message]]:
    """Messages of one partition, cut into fetches anywhere."""
    messages = [message(start + i, rows, size) for i, (rows, size) in enumerate(draw(sizes))]
    cuts = sorted(draw(st.sets(st.integers(0, len(messages)))) | {0, len(messages)})
    return [messages[a:b] for a, b in pairwise(cuts)]


@given(batches())
def test_ranges_hold_every_message_once_in_order_within_limits(fetches: list[list[Message]]) -> None:
    plan = planner()
    ranges = []
    for number, fetched in enumerate(fetches):
        plan.add(fetched, now=number * 0.2)
        ranges += plan.take(now=number * 0.2)
    ranges += plan.take(now=0, flush=True)
    assert [o for r in ranges for o in offsets(r)] == [m.offset for f in fetches for m in f]
    assert plan.empty
    for r in ranges:
        assert (r.intent.lo, r.intent.hi) == (r.messages[0].offset, r.messages[-1].offset)
        assert len(r.messages) == 1 or sum(int(m.headers["rows"]) for m in r.messages) <= 100
        assert len(r.messages) == 1 or r.bytes <= 1000


@given(batches(start=7), st.data())
def test_a_pending_range_closes_where_it_was_planned_whatever_the_limits_and_fetches_are_now(
    fetches: list[list[Message]], data: st.DataObject
) -> None:
    last = fetches[-1][-1].offset if fetches[-1] else fetches[0][-1].offset
    hi = data.draw(st.integers(7, last))
    intent = Intent(WHERE, 7, hi, "e0")
    plan = planner(max_rows=data.draw(st.integers(1, 50)), max_bytes=data.draw(st.integers(1, 100)))
    plan.reset([intent])
    for fetched in fetches:
        plan.add(fetched, now=0)
    first = plan.take(now=0, flush=True)[0]
    assert first.intent == intent
    assert offsets(first) == list(range(7, hi + 1))


def test_a_range_worth_an_insert_does_not_wait_for_its_age() -> None:
    plan = planner(max_bytes=2000, ripe_bytes=500)
    plan.add([message(0, size=499), message(0, size=499, where=OTHER)], now=10.0)
    assert plan.take(now=10.1) == []
    plan.add([message(1)], now=10.2)
    assert [(r.intent.where, offsets(r)) for r in plan.take(now=10.2)] == [(WHERE, [0, 1])]
    assert [r.intent.where for r in plan.take(now=10.5)] == [OTHER]


def test_age_closes_a_range_but_not_a_pending_one() -> None:
    plan = planner()
    plan.reset([Intent(OTHER, 0, 5, "e0")])
    plan.add([message(0), message(0, where=OTHER)], now=10.0)
    assert plan.wait_s(10.2) == pytest.approx(0.3)
    assert plan.take(now=10.4) == []
    assert [r.intent.where for r in plan.take(now=10.5)] == [WHERE]
    assert plan.take(now=99.0, flush=True) == []
    assert not plan.empty


def test_a_message_with_a_row_count_that_is_none_is_planned_all_the_same() -> None:
    plan = planner()
    for offset, claim in enumerate(["", "many", "-1", "9" * 40, "²"]):
        plan.add([Message(WHERE, offset, b"", {"rows": claim}, None, 0)], now=0)
    (only,) = plan.take(now=0, flush=True)
    assert offsets(only) == [0, 1, 2, 3, 4]


def test_a_log_that_changed_under_a_pending_range_is_refused() -> None:
    plan = planner()
    plan.reset([Intent(WHERE, 0, 5, "e0")])
    with pytest.raises(CollectorHaltedError, match=r"\[0, 5\] is pending, but the log gave \[4, 6\]"):
        plan.add([message(4), message(6)], now=0)


def test_abandoning_a_partition_forgets_its_messages_and_its_intent() -> None:
    plan = planner()
    intent = Intent(WHERE, 0, 5, "e0")
    plan.reset([intent])
    plan.add([message(0)], now=0)
    assert plan.abandon(WHERE) == intent
    assert plan.empty
    assert plan.held_bytes == 0


@given(st.integers(0, 2**63), st.integers(0, 2**40), st.text(max_size=20))
def test_an_intent_is_read_back_from_its_metadata(lo: int, length: int, epoch: str) -> None:
    intent = Intent(WHERE, lo, lo + length, epoch)
    assert Intent.from_metadata(WHERE, lo, intent.metadata()) == intent


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("note", "no collector wrote"),
        ("{}", "no collector wrote"),
        ("[]", "no collector wrote"),
        ('{"hi": null, "epoch": "e", "schema": 1}', "no collector wrote"),
        ('{"hi": 3, "epoch": "e", "schema": 1}', "ends before it"),
        ('{"hi": 9, "epoch": "e", "schema": 99}', "Start the newer version"),
    ],
)
def test_foreign_metadata_halts(metadata: str, says: str) -> None:
    with pytest.raises(CollectorHaltedError, match=says):
        Intent.from_metadata(WHERE, 4, metadata)


@given(
    st.lists(
        st.builds(
            Intent, st.sampled_from([WHERE, OTHER]), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["a", "b"])
        ),
        unique=True,
    )
)
def test_different_ranges_have_different_tokens(intents: list[Intent]) -> None:
    tokens = {intent.token(part) for intent in intents for part in ("2026-01-01", "2026-01-02", "dead")}
    assert len(tokens) == 3 * len(intents)
