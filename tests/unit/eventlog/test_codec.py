"""Chunks: what goes in comes out, and whatever else comes in is refused with a reason."""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import cloudevents
from eventlog.cloudevents import open_chunk
from eventlog.codec import MAX_CHUNK_BYTES, ChunkError, decode, encode
from eventlog.port import Message, TopicPartition
from eventlog.schema import FACTS, FactType
from tests.golden.eventlog import make

GOLDEN = Path(make.__file__).parent
MALFORMED = json.loads((GOLDEN / "malformed.json").read_text(encoding="utf-8"))
LEG = FACTS["leg"]

every_fact = pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)


def _bits(kind: Any) -> tuple[int, int]:
    return (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a column's type, as pyarrow takes them."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    kinds: list[tuple[Callable[[Any], bool], Callable[[], st.SearchStrategy[Any]]]] = [
        (pa.types.is_fixed_size_binary, lambda: st.binary(min_size=16, max_size=16)),
        (pa.types.is_binary, lambda: st.binary(max_size=40)),
        (pa.types.is_dictionary, lambda: st.sampled_from(["", "a", "ü", "edge_up", "a longer name of something"])),
        (pa.types.is_string, lambda: text),
        (pa.types.is_boolean, st.booleans),
        (pa.types.is_timestamp, lambda: st.integers(0, 2**63 - 1)),
        (pa.types.is_floating, lambda: st.floats(width=kind.bit_width, allow_nan=False, allow_infinity=False)),
        (pa.types.is_signed_integer, lambda: st.integers(*_bits(kind))),
        (pa.types.is_unsigned_integer, lambda: st.integers(0, 2**kind.bit_width - 1)),
        (
            pa.types.is_map,
            lambda: st.dictionaries(text, values(kind.item_type), max_size=4).map(lambda d: [*d.items()]),
        ),
    ]
    return next(made() for matches, made in kinds if matches(kind))


def batches(fact: FactType) -> st.SearchStrategy[pa.RecordBatch]:
    row = st.tuples(*(st.none() | values(f.type) if f.nullable else values(f.type) for f in fact.schema))
    return st.lists(row, min_size=1, max_size=20).map(
        lambda rows: pa.RecordBatch.from_arrays(
            [
                pa.array(list(column), type=f.type)
                for f, column in zip(fact.schema, zip(*rows, strict=True), strict=True)
            ],
            schema=fact.schema,
        )
    )


def message(fact: FactType, data: bytes, rows: int) -> Message:
    headers = cloudevents.headers(fact, "test", 0, rows, data, 0)
    return Message(TopicPartition(fact.topic, 0), 0, data, headers, None, 0)


@every_fact
@settings(max_examples=30)
@given(data=st.data())
def test_a_batch_comes_back(fact: FactType, data: st.DataObject) -> None:
    batch = data.draw(batches(fact))
    packed = encode(fact, batch)
    assert decode(fact, packed).equals(batch)
    assert encode(fact, batch) == packed
    opened, header, found = open_chunk(message(fact, packed, batch.num_rows))
    assert (opened, header.rows) == (fact, batch.num_rows)
    assert found.equals(batch)


@every_fact
def test_a_slice_takes_only_its_own_rows(fact: FactType) -> None:
    part = make.batch(fact, make.rows(fact, 18)).slice(11, 3)
    assert make.plain(decode(fact, encode(fact, part))) == make.rows(fact, 18)[11:14]


@every_fact
def test_golden_chunks_stay_readable(fact: FactType) -> None:
    batch = decode(fact, (GOLDEN / f"{fact.name}.v1.arrow").read_bytes())
    assert batch.schema.equals(fact.schema)
    wanted = json.loads((GOLDEN / f"{fact.name}.v1.json").read_text(encoding="utf-8"))
    assert make.plain(batch) == [dict(fact.defaults) | row for row in wanted]


def test_a_golden_chunk_with_weights() -> None:
    batch = decode(FACTS["packet"], (GOLDEN / "packet.weights.arrow").read_bytes())
    assert batch.column("represents").to_pylist() == [0, 7, 14, 21, 28, 35, 42]


def test_a_chunk_from_before_a_column_was_added_has_null_there_or_the_default() -> None:
    packets = decode(FACTS["packet"], (GOLDEN / "packet.v1.arrow").read_bytes())
    assert set(packets.column("represents").to_pylist()) == {1}
    batch = decode(LEG, (GOLDEN / "older.arrow").read_bytes())
    assert batch.column("remote_region").null_count == batch.num_rows == 7
    assert [row["rtt_us"] for row in make.plain(batch)] == [row["rtt_us"] for row in make.rows(LEG, 7)]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "column"), [("frame", "level_dbov"), ("turn", "audio_ms"), ("client", "values")])
def test_numbers_that_are_none_are_refused(name: str, column: str, wrong: float) -> None:
    fact = FACTS[name]
    whole = make.batch(fact, make.rows(fact, 6))
    at = whole.schema.get_field_index(column)
    field: Any = whole.schema.field(column)
    values = whole.column(column).to_pylist()
    values[4] = [("jitter", 0.5), ("roundTripTime", wrong)] if column == "values" else wrong
    batch = whole.set_column(at, field, pa.array(values, type=field.type))
    with pytest.raises(ChunkError) as caught:
        encode(fact, batch)
    assert caught.value.reason == "not_finite"
    with pytest.raises(ChunkError) as caught:
        decode(fact, make.stream(fact.schema, [batch]))
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize("name", MALFORMED)
def test_golden_malformed_chunks_are_refused(name: str) -> None:
    with pytest.raises(ChunkError) as caught:
        decode(LEG, (GOLDEN / "malformed" / name).read_bytes())
    assert caught.value.reason == MALFORMED[name]
    assert caught.value.detail


def test_every_malformed_golden_is_listed() -> None:
    assert sorted(path.name for path in (GOLDEN / "malformed").iterdir()) == sorted(MALFORMED)


@every_fact
def test_a_chunk_cut_anywhere_is_refused(fact: FactType) -> None:
    packed = (GOLDEN / f"{fact.name}.v1.arrow").read_bytes()
    sound = message(fact, packed, 7)
    for end in range(len(packed)):
        with pytest.raises(ChunkError):
            decode(fact, packed[:end])
        with pytest.raises(ChunkError, match="bad_checksum"):
            open_chunk(dataclasses.replace(sound, value=packed[:end]))


@settings(max_examples=300)
@given(name=st.sampled_from(list(FACTS)), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(name: str, place: float, bit: int) -> None:
    fact = FACTS[name]
    packed = (GOLDEN / f"{name}.v1.arrow").read_bytes()
    at = int(place * len(packed))
    flipped = packed[:at] + bytes([packed[at] ^ (1 << bit)]) + packed[at + 1 :]
    sound = message(fact, packed, 7)
    with pytest.raises(ChunkError) as caught:
        open_chunk(dataclasses.replace(sound, value=flipped))
    assert caught.value.reason == "bad_checksum"
    refused_or_valid(fact, flipped)


@settings(max_examples=300)
@given(name=st.sampled_from(list(FACTS)), data=st.binary(max_size=300), keep=st.floats(0, 1))
def test_whatever_the_bytes_only_a_chunk_error_comes_of_them(name: str, data: bytes, keep: float) -> None:
    packed = (GOLDEN / f"{name}.v1.arrow").read_bytes()
    refused_or_valid(FACTS[name], packed[: int(keep * len(packed))] + data + packed[-8:])


def refused_or_valid(fact: FactType, data: bytes) -> None:
    """Without a checksum a changed value cannot be told from a true one; but what is accepted is a valid batch."""
    try:
        batch = decode(fact, data)
    except ChunkError:
        return
    batch.validate(full=True)
    assert batch.schema.equals(fact.schema)


@pytest.mark.parametrize(
    ("reason", "changed", "topic"),
    [
        ("unknown_type", {"ce_type": "sidetone.leg.v9"}, LEG.topic),
        ("wrong_topic", {}, "sidetone.turns"),
        ("bad_checksum", {"crc32c": "00000000"}, LEG.topic),
        ("bad_row_count", {"rows": "8"}, LEG.topic),
        ("bad_header", {"rows": ""}, LEG.topic),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(reason: str, changed: dict[str, str], topic: str) -> None:
    sound = message(LEG, (GOLDEN / "leg.v1.arrow").read_bytes(), 7)
    changed_message = dataclasses.replace(sound, where=TopicPartition(topic, 0), headers={**sound.headers, **changed})
    with pytest.raises(ChunkError) as caught:
        open_chunk(changed_message)
    assert caught.value.reason == reason


def test_what_no_chunk_may_hold_is_not_encoded() -> None:
    batch = make.batch(LEG, make.rows(LEG, 3))
    audio = FACTS["audio"]
    row = make.rows(audio, 1)[0] | {"payload": os.urandom(MAX_CHUNK_BYTES + 1).hex()}
    for fact, bad, reason in [
        (FACTS["turn"], batch, "wrong_schema"),
        (LEG, batch.slice(0, 0), "bad_row_count"),
        (audio, make.batch(audio, [row]), "too_large"),
    ]:
        with pytest.raises(ChunkError) as caught:
            encode(fact, bad)
        assert caught.value.reason == reason


def test_a_chunk_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ChunkError) as caught:
        decode(LEG, bytes(MAX_CHUNK_BYTES + 1))
    assert caught.value.reason == "too_large"
