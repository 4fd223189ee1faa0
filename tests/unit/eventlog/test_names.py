"""Identifiers, partitions and headers."""

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import cloudevents, ids
from eventlog.codec import ChunkError
from eventlog.ids import uuid7
from eventlog.partitioner import partition_for
from eventlog.schema import FACTS, FactType

TIMES = st.integers(0, (1 << 48) * 1_000_000 - 1)
RANDOM = st.binary(min_size=10, max_size=10)
SESSIONS = st.binary(min_size=16, max_size=16)


def test_uuid7_is_the_rfc_s_example() -> None:
    # RFC 9562, A.6: 2022-02-22 14:22:22 UTC-05:00, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    random = (0xCC3 << 68 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert str(uuid7(0x017F22E279B0 * 1_000_000, random)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(TIMES, RANDOM)
def test_uuid7_has_version_variant_and_time(now_ns: int, random: bytes) -> None:
    made = uuid7(now_ns, random)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert ids.time_ns(made) == now_ns // 1_000_000 * 1_000_000


@given(TIMES, TIMES, RANDOM, RANDOM)
def test_uuid7_sorts_by_time(one_ns: int, other_ns: int, random: bytes, more: bytes) -> None:
    one, other = uuid7(one_ns, random), uuid7(other_ns, more)
    if one_ns // 1_000_000 != other_ns // 1_000_000:
        earlier = one_ns < other_ns
        assert (one < other) == (one.bytes < other.bytes) == (str(one) < str(other)) == earlier


@pytest.mark.parametrize(("now_ns", "octets"), [(-1, 10), ((1 << 48) * 1_000_000, 10), (0, 9), (0, 11)])
def test_uuid7_refuses_what_does_not_fit(now_ns: int, octets: int) -> None:
    with pytest.raises(ValueError, match="uuid7"):
        uuid7(now_ns, bytes(octets))


@pytest.mark.parametrize(
    ("octets", "crc"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],  # RFC 3720, B.4
)
def test_partitions_never_change(octets: bytes, crc: int) -> None:
    assert [partition_for(octets, count) for count in (1, 7, 12)] == [crc % 1, crc % 7, crc % 12]


@given(SESSIONS, st.integers(1, 1_000))
def test_a_partition_is_one_of_them(session: bytes, partitions: int) -> None:
    assert 0 <= partition_for(session, partitions) < partitions


def test_sessions_spread_over_partitions() -> None:
    sessions = [uuid7(10**18 + number * 10**9, number.to_bytes(10, "little")).bytes for number in range(12_000)]
    counts = [0] * 12
    for session in sessions:
        counts[partition_for(session, 12)] += 1
    assert 800 < min(counts) <= max(counts) < 1_200


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        partition_for(bytes(16), 0)


@given(
    fact=st.sampled_from(list(FACTS.values())),
    source=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    sequence=st.integers(0, 2**64 - 1),
    rows=st.integers(0, 2**32),
    data=st.binary(),
    time_ns=st.integers(0, 4_000_000_000 * 10**9),
)
def test_headers_come_back(fact: FactType, source: str, sequence: int, rows: int, data: bytes, time_ns: int) -> None:
    headers = cloudevents.headers(fact, source, sequence, rows, data, time_ns)
    header = cloudevents.parse(headers)
    assert (header.source, header.type, header.sequence, header.rows) == (source, fact.ce_type, sequence, rows)
    assert header.time_ns == time_ns
    assert f"{header.crc32c:08x}" == headers["crc32c"]


def test_headers_are_cloudevents_of_kafka_s_binary_mode() -> None:
    headers = cloudevents.headers(FACTS["packet"], "edge/eu/h/1", 7, 3, b"123456789", 1_700_000_000_000_000_001)
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": "packet-7",
        "ce_source": "edge/eu/h/1",
        "ce_type": "sidetone.packet.v1",
        "ce_time": "2023-11-14T22:13:20.000000001Z",
        "ce_sequence": "00000000000000000007",
        "content-type": "application/vnd.apache.arrow.stream",
        "rows": "3",
        "crc32c": "e3069283",  # RFC 3720's check value of CRC-32C
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", "0.3"),
        ("content-type", "application/json"),
        ("ce_source", ""),
        ("ce_sequence", "-1"),
        ("ce_sequence", "1_000"),
        ("ce_sequence", "٣"),
        ("ce_sequence", str(2**64)),
        ("rows", "many"),
        ("crc32c", "e306928"),
        ("crc32c", "E3069283"),
        ("ce_time", "2023-11-14"),
        ("ce_time", "2023-02-30T22:13:20.000000001Z"),
    ],
)
def test_a_wrong_header_is_named(name: str, value: str) -> None:
    headers = cloudevents.headers(FACTS["turn"], "source", 0, 1, b"", 0)
    with pytest.raises(ChunkError, match=name) as caught:
        cloudevents.parse(headers | {name: value})
    assert caught.value.reason == "bad_header"
    del headers[name]
    with pytest.raises(ChunkError, match=f"{name} is"):
        cloudevents.parse(headers)


@given(st.dictionaries(st.sampled_from([*cloudevents.headers(FACTS["turn"], "s", 0, 1, b"", 0)]), st.text()))
def test_whatever_headers_say_only_a_chunk_error_comes_of_it(changed: dict[str, str]) -> None:
    headers = cloudevents.headers(FACTS["turn"], "source", 0, 1, b"", 0) | changed
    with contextlib.suppress(ChunkError):
        cloudevents.parse(headers)
