"""A range's chunks become one block per UTC day; the same messages give the same blocks to the last byte."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.facts import START_NS, record, sample
from collector import Block, Intent, Opened, Planner, Range, open_range
from eventlog.port import Message, TopicPartition
from eventlog.schema import FACTS, PACKET, TURN, FactType

DAY_NS = 86_400_000_000_000


def messages(fact: FactType, count: int, seed: int, *, step_ns: int = 10**9, start_ns: int = START_NS) -> list[Message]:
    rng = np.random.default_rng(seed)
    found = []
    for offset in range(count):
        batch = sample(fact, int(rng.integers(1, 6)), rng, start_ns=start_ns + offset * step_ns)
        one = record(fact, batch, source="s", sequence=offset)
        found.append(Message(one.where, offset, one.value, one.headers, None, START_NS))
    return found


def opened(found: list[Message], epoch: str = "e1") -> Opened:
    source = Range(Intent(found[0].where, found[0].offset, found[-1].offset, epoch), tuple(found))
    return open_range(source, late_after_s=60)


def facts_of(result: Opened) -> list[Block]:
    """Return the blocks before the ledger's, which is the last."""
    *blocks, ledger = result.blocks
    assert (ledger.table, ledger.rows) == ("chunks", len(result.taken))
    assert ledger.token.endswith(":chunks")
    return blocks


def table(block_data: pa.Buffer) -> pa.Table:
    with pa.ipc.open_stream(block_data) as reader:
        return reader.read_all()


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.name)
def test_a_block_has_every_row_as_it_was(fact: FactType) -> None:
    found = messages(fact, 5, seed=1)
    (block,) = facts_of(opened(found))
    assert table(block.data).schema == fact.schema
    rows = [row for message in found for row in table(pa.py_buffer(message.value)).to_pylist()]
    assert table(block.data).to_pylist() == rows
    assert (block.table, block.columns, block.rows) == (fact.table, tuple(fact.schema.names), len(rows))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([PACKET, TURN]), st.data())
def test_a_replay_gives_identical_blocks_however_the_messages_arrive(
    seed: int, fact: FactType, data: st.DataObject
) -> None:
    found = messages(fact, 8, seed, step_ns=DAY_NS // 3)
    first = opened(found, epoch="e0")
    cuts = sorted(data.draw(st.sets(st.integers(0, 8))) | {0, 8})
    again = Planner("e9", max_rows=data.draw(st.integers(1, 9)), max_bytes=1, max_age_s=0, ripe_bytes=1)
    again.reset([first.intent])
    for a, b in pairwise(cuts):
        again.add(found[a:b], now=0)
    (replayed,) = again.take(now=0)
    second = open_range(replayed, late_after_s=60)
    assert [block.token for block in second.blocks] == [block.token for block in first.blocks]
    assert [block.data.to_pybytes() for block in second.blocks] == [block.data.to_pybytes() for block in first.blocks]
    assert len({block.token for block in first.blocks}) == len(first.blocks) > 1


def at_times(times: list[int]) -> Message:
    """Return a chunk of packets observed at those times."""
    batch = sample(PACKET, len(times), np.random.default_rng(0))
    at = PACKET.schema.get_field_index("observed_ns")
    column = pa.array(times, pa.int64()).cast(PACKET.schema.field(at).type)
    one = record(PACKET, batch.set_column(at, PACKET.schema.field(at), column), source="s", sequence=0)
    return Message(one.where, 0, one.value, one.headers, None, START_NS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=20), st.integers(0, DAY_NS - 1))
def test_blocks_hold_one_utc_day_each(days: list[int], within: int) -> None:
    times = [START_NS // DAY_NS * DAY_NS + day * DAY_NS + within for day in days]
    result = opened([at_times(times)])
    if len(set(days)) > 31:
        assert [letter.reason for letter in result.dead] == ["bad_time"]
        return
    stored: list[int] = []
    for block in facts_of(result):
        of_block: Any = table(block.data).column("observed_ns").cast(pa.int64()).to_pylist()
        assert len({time // DAY_NS for time in of_block}) == 1
        stored += of_block
    assert sorted(stored) == sorted(times)
    assert len(facts_of(result)) == len(set(days))
    assert result.rows == len(days)
    assert result.late_rows == sum(time < START_NS - 60 * 10**9 for time in times)


@pytest.mark.parametrize("time", [-(2**63) + 1, -1, 0, 10**18 - 54 * 10**15, START_NS + 732 * DAY_NS, 2**63 - 1])
def test_times_that_no_set_clock_tells_are_refused(time: int) -> None:
    result = opened([at_times([START_NS, time])])
    assert [letter.reason for letter in result.dead] == ["bad_time"]
    assert result.blocks == ()


@pytest.mark.parametrize("time", [946_684_800 * 10**9, START_NS + 730 * DAY_NS])
def test_late_and_early_times_are_stored(time: int) -> None:
    assert opened([at_times([time])]).rows == 1


def test_a_session_that_is_none_is_refused() -> None:
    batch = sample(TURN, 3, np.random.default_rng(0))
    for value, reasons in ((bytes(16), []), (b"\x01" * 16, ["bad_session"]), (b"not a session id", ["bad_session"])):
        changed = batch.set_column(0, TURN.schema.field(0), pa.array([value] * 3, TURN.schema.field(0).type))
        one = record(TURN, changed, source="s", sequence=0)
        result = opened([Message(one.where, 0, one.value, one.headers, None, START_NS)])
        assert [letter.reason for letter in result.dead] == reasons


def test_a_token_names_epoch_partition_range_and_day() -> None:
    assert [block.token for block in facts_of(opened(messages(TURN, 2, seed=3, step_ns=DAY_NS)))] == [
        "e1:sidetone.turns:0:0-1:2026-09-21",
        "e1:sidetone.turns:0:0-1:2026-09-22",
    ]


def test_a_refused_message_becomes_a_dead_letter_and_costs_no_other() -> None:
    found = messages(TURN, 4, seed=5)
    found[1] = replace(found[1], value=found[1].value[:-1] + b"\x01")
    found[2] = replace(found[2], headers={**found[2].headers, "ce_type": "sidetone.nothing.v1"}, key=b"\xff")
    result = opened(found)
    (facts,) = facts_of(result)
    assert facts.rows == sum(int(found[i].headers["rows"]) for i in (0, 3))
    letters = [(letter.message.offset, letter.reason) for letter in result.dead]
    assert letters == [(1, "bad_checksum"), (2, "unknown_type")]
    assert [letter.message for letter in result.dead] == found[1:3]


def test_runs_of_refused_messages_are_measured_at_both_ends() -> None:
    found = messages(TURN, 9, seed=6)
    for index in (0, 1, 3, 4, 5, 8):
        found[index] = replace(found[index], value=b"")
    result = opened(found)
    assert (result.poison_head, result.poison_run, result.poison_tail) == (2, 3, 1)
    nothing = opened([replace(message, value=b"") for message in found])
    assert (nothing.poison_head, nothing.poison_run, nothing.poison_tail) == (9, 9, 9)


def test_what_opening_raises_for_a_chunk_of_another_topic_is_a_dead_letter_too() -> None:
    (one,) = messages(TURN, 1, seed=7)
    result = opened([replace(one, where=TopicPartition(PACKET.topic, 0))])
    assert [letter.reason for letter in result.dead] == ["wrong_topic"]
