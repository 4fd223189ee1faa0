"""Chunks are sorted, hold one partition each, and no two facts ever share an identity."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.backlog import Block
from eventlog.chunks import Sorter, encoded
from eventlog.codec import decode
from eventlog.columns import Assembly
from eventlog.partitioner import partition_for
from eventlog.schema import FACTS, FactType
from tests.golden.eventlog import make

LEG = FACTS["leg"]
SESSIONS = [bytes([number]) * 16 for number in (7, 0, 255)]
START_NS = 1_790_000_000_000_000_000

Capture = tuple[int, str, int]
"""Session by number, method, and nanoseconds since the start."""

CAPTURES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["stun", "rtcp"]), st.integers(0, 6) | st.integers(0, 10**9)),
    min_size=1,
    max_size=40,
)


def legs(captures: list[Capture], first: int = 0) -> pa.RecordBatch:
    """Samples in the order of capture; `rtt_us` numbers them."""
    columns = {
        "session_id": [SESSIONS[session] for session, _, _ in captures],
        "region": "eu",
        "observed_ns": [START_NS + time_ns for _, _, time_ns in captures],
        "leg": "client_edge",
        "method": [method for _, method, _ in captures],
        "rtt_us": np.arange(first, first + len(captures)),
    }
    assembly = Assembly(LEG, "host")
    assembly.add(Block(len(captures), columns=columns))
    batch = assembly.batch()
    assert batch is not None
    return batch


def keys(rows: pa.RecordBatch, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in make.plain(rows)]


@settings(max_examples=100)
@given(st.lists(CAPTURES, min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 20))
def test_identities_are_unique_and_nothing_is_lost(
    batches: list[list[Capture]], partitions: int, chunk_rows: int
) -> None:
    sorter, sent, captured = Sorter(LEG), list[dict[str, Any]](), dict[int, int]()
    for captures in batches:
        for number, capture in enumerate(captures, len(captured)):
            captured[number] = START_NS + capture[2]
        for partition, rows in sorter.chunks(legs(captures, len(captured) - len(captures)), partitions, chunk_rows):
            assert 0 < rows.num_rows <= chunk_rows
            assert keys(rows, LEG.order) == sorted(keys(rows, LEG.order))
            plain = make.plain(rows)
            assert {partition_for(bytes.fromhex(row["session_id"]), partitions) for row in plain} == {partition}
            sent += plain
    assert sorted(row["rtt_us"] for row in sent) == sorted(captured)
    assert max(Counter(tuple(row[name] for name in LEG.identity) for row in sent).values()) == 1
    for row in sent:  # a time is only ever moved on, and by no more than there are rows
        assert 0 <= row["observed_ns"] - captured[row["rtt_us"]] <= 10**9 + len(captured)


def test_ties_are_moved_by_a_nanosecond_in_the_order_of_capture() -> None:
    ((_, rows),) = Sorter(LEG).chunks(legs([(0, "stun", 5), (0, "rtcp", 5), (0, "stun", 5), (0, "stun", 6)]), 1, 100)
    assert [(row["method"], row["rtt_us"], row["observed_ns"] - START_NS) for row in make.plain(rows)] == [
        ("rtcp", 1, 5),
        ("stun", 0, 5),
        ("stun", 2, 6),
        ("stun", 3, 7),
    ]


def test_times_of_packets_stay_whole_steps() -> None:
    """One time between two steps costs a whole block of the store's its compression: a byte a packet where seen."""
    packet = FACTS["packet"]
    first = make.rows(packet, 1)[0] | {"observed_ns": START_NS}
    sorter, times = Sorter(packet), list[int]()
    for steps in ([0, 0, 1, 3], [1, 3, 9]):
        burst = [first | {"observed_ns": START_NS + step * packet.step_ns} for step in steps]
        ((_, rows),) = sorter.chunks(make.batch(packet, burst), 1, 100)
        times += [row["observed_ns"] - START_NS for row in make.plain(rows)]
    assert [time / packet.step_ns for time in times] == [0, 1, 2, 3, 4, 5, 9]


def test_a_time_sent_in_an_earlier_chunk_is_not_sent_again() -> None:
    sorter = Sorter(LEG)
    list(sorter.chunks(legs([(0, "stun", 5), (0, "stun", 9)]), 1, 100))
    ((_, rows),) = sorter.chunks(legs([(0, "stun", 5), (1, "stun", 5), (0, "stun", 7)]), 1, 100)
    moved = {row["rtt_us"]: row["observed_ns"] - START_NS for row in make.plain(rows)}
    assert moved == {0: 6, 1: 5, 2: 7}


def test_thousands_of_rows_of_one_instant_end_unique_at_once() -> None:
    sorter, times = Sorter(LEG), set[int]()
    for number in range(5):
        for _, rows in sorter.chunks(legs([(0, "stun", 0)] * 5_000, number * 5_000), 1, 65_536):
            times.update(np.asarray(rows.column("observed_ns").cast(pa.int64())).tolist())
    assert times == set(range(START_NS, START_NS + 25_000))


def test_chunks_are_split_by_size() -> None:
    audio = FACTS["audio"]
    row = make.rows(audio, 1)[0]
    rows = [row | {"payload": np.random.default_rng(n).bytes(30_000).hex(), "observed_ns": n} for n in range(100)]
    parts = list(encoded(audio, make.batch(audio, rows)))
    assert sum(size for size, _ in parts) == 100
    assert max(len(data) for _, data in parts) < 1_000_000
    assert [r for _, data in parts for r in make.plain(decode(audio, data))] == rows


def test_a_row_that_no_chunk_can_hold_has_no_chunk() -> None:
    audio = FACTS["audio"]
    small = make.rows(audio, 1)[0]
    big = small | {"payload": np.random.default_rng(0).bytes(17 << 20).hex()}
    parts = [(size, bool(data)) for size, data in encoded(audio, make.batch(audio, [small, big, small]))]
    assert sorted(parts) == [(1, False), (1, True), (1, True)]


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_every_type_can_be_sorted(fact: FactType) -> None:
    batch = make.batch(fact, make.rows(fact, 9))
    ((_, rows),) = Sorter(fact).chunks(batch.take(pa.array(np.arange(9)[::-1])), 1, 100)  # type: ignore[arg-type]
    assert keys(rows, fact.order) == sorted(keys(rows, fact.order))
    assert sorted(map(repr, make.plain(rows))) == sorted(map(repr, make.plain(batch)))
