"""What every backend of the log must do. Written against the port alone."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog import (
    Committed,
    EventLog,
    EventLogError,
    FencedError,
    Message,
    OffsetOutOfRangeError,
    Record,
    Subscription,
    TopicPartition,
)
from tests.contract.eventlog_backends import PARTITIONS, Backend, SqliteBackend
from tests.contract.kafka_backend import KafkaBackend

PLENTY = 1 << 20
PATIENCE_S = 30.0


@pytest.fixture(params=["kafka", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend
    if request.param == "kafka":
        made = KafkaBackend(request.getfixturevalue("kafka_bootstrap"), PARTITIONS)
    else:
        made = SqliteBackend(tmp_path)
    yield made
    await made.aclose()


@pytest.fixture
async def log(backend: Backend) -> EventLog:
    return await backend.open()


@pytest.fixture
async def topic(backend: Backend) -> str:
    (name,) = await backend.topics(1)
    return name


@pytest.fixture
def where(topic: str) -> TopicPartition:
    return TopicPartition(topic, 0)


def numbered(where: TopicPartition, count: int, size: int = 0) -> list[Record]:
    return [Record(where, b"%d" % number + bytes(size)) for number in range(count)]


async def fetch(subscription: Subscription, count: int, max_bytes: int = PLENTY) -> list[Message]:
    """Fetch until there are so many messages; a test that never gets them fails by its own clock."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
        found += await subscription.fetch(max_bytes=max_bytes, timeout_s=0.2)
    return found


def test_is_an_event_log(log: EventLog) -> None:
    assert isinstance(log, EventLog)


async def test_offsets_are_gapless_from_zero_per_partition(log: EventLog, topic: str) -> None:
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    assert await log.append([Record(first, b"a"), Record(second, b"b"), Record(first, b"c")]) == [0, 0, 1]
    assert await log.append([Record(second, b"d"), Record(first, b"e")]) == [1, 2]
    assert await log.append([]) == []
    assert await log.bounds(first) == (0, 3)
    assert await log.bounds(second) == (0, 2)


async def test_a_message_comes_back_as_it_was_appended(log: EventLog, where: TopicPartition) -> None:
    before_ns = time.time_ns() - 1_000_000_000
    records = [
        Record(where, b"\x00\xff" * 300_000, {"ce_id": "1", "content-type": "a/b; c=ü"}, b"key\x00"),
        Record(where, b"", {}, None),
    ]
    await log.append(records)
    messages = await log.read(where, 0, max_bytes=PLENTY)
    assert [(m.where, m.offset, m.value, dict(m.headers), m.key) for m in messages] == [
        (where, 0, records[0].value, records[0].headers, b"key\x00"),
        (where, 1, b"", {}, None),
    ]
    assert before_ns < messages[0].appended_ns <= messages[1].appended_ns < time.time_ns() + 1_000_000_000


async def test_an_empty_partition(log: EventLog, where: TopicPartition) -> None:
    assert await log.bounds(where) == (0, 0)
    assert await log.read(where, 0, max_bytes=PLENTY) == []


async def test_every_topic_has_the_log_s_partitions(backend: Backend, log: EventLog) -> None:
    assert {await log.partitions(name) for name in await backend.topics(3)} == {PARTITIONS}


async def test_a_partition_that_is_not_there_is_refused(log: EventLog, topic: str) -> None:
    with pytest.raises(EventLogError, match=str(PARTITIONS)):
        await log.append([Record(TopicPartition(topic, 0), b"good"), Record(TopicPartition(topic, PARTITIONS), b"")])
    assert await log.bounds(TopicPartition(topic, 0)) == (0, 0)


async def test_read_takes_what_fits_but_at_least_one(log: EventLog, where: TopicPartition) -> None:
    await log.append(numbered(where, 10, size=99))
    assert [m.offset for m in await log.read(where, 3, max_bytes=350)] == [3, 4, 5]
    assert [m.offset for m in await log.read(where, 3, max_bytes=1)] == [3]
    assert [m.offset for m in await log.read(where, 0, max_bytes=PLENTY)] == list(range(10))


@pytest.mark.parametrize("offset", [-1, 4, 1_000])
async def test_read_outside_the_log(log: EventLog, where: TopicPartition, offset: int) -> None:
    await log.append(numbered(where, 3))
    assert await log.read(where, 3, max_bytes=PLENTY) == []
    with pytest.raises(OffsetOutOfRangeError) as caught:
        await log.read(where, offset, max_bytes=PLENTY)
    assert (caught.value.where, caught.value.wanted, caught.value.first, caught.value.end) == (where, offset, 0, 3)


async def test_appends_of_several_users_at_once(backend: Backend, where: TopicPartition) -> None:
    logs = [await backend.open() for _ in range(3)]
    offsets = await asyncio.gather(*(log.append(numbered(where, 5)) for log in logs for _ in range(4)))
    assert sorted(itertools.chain.from_iterable(offsets)) == list(range(60))
    values = [m.value for m in await logs[0].read(where, 0, max_bytes=PLENTY)]
    assert [values[offset] for batch in offsets for offset in batch] == [b"%d" % n for n in range(5)] * 12


async def test_what_was_appended_is_there_when_opened_again(backend: Backend, where: TopicPartition) -> None:
    log = await backend.open()
    await log.append(numbered(where, 3))
    await log.aclose()
    await log.aclose()
    with pytest.raises(EventLogError):
        await log.append(numbered(where, 1))
    again = await backend.open()
    assert await again.append(numbered(where, 1)) == [3]


async def test_a_group_s_first_member_starts_at_the_log_s_start(log: EventLog, topic: str) -> None:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    for where in partitions:
        await log.append(numbered(where, 20, size=100))
    async with log.subscribe("group", [topic]) as member:
        messages = await fetch(member, 40, max_bytes=500)
        assert member.assignment == set(partitions)
        for where in partitions:
            assert [m.offset for m in messages if m.where == where] == list(range(20))


async def test_several_topics_in_one_subscription(backend: Backend, log: EventLog) -> None:
    names = await backend.topics(3)
    for name in names:
        await log.append(numbered(TopicPartition(name, 1), 2))
    async with log.subscribe("group", names) as member:
        messages = await fetch(member, 6)
        assert {(m.where.topic, m.offset) for m in messages} == set(itertools.product(names, range(2)))


async def test_fetch_returns_empty_when_nothing_comes(log: EventLog, topic: str) -> None:
    async with log.subscribe("group", [topic]) as member:
        assert await member.fetch(max_bytes=PLENTY, timeout_s=0.05) == []


async def test_fetch_wakes_when_another_user_appends(backend: Backend, where: TopicPartition) -> None:
    reader, writer = await backend.open(), await backend.open()
    async with reader.subscribe("group", [where.topic]) as member:
        waiting = asyncio.create_task(fetch(member, 1))
        await member.committed(where)
        await writer.append(numbered(where, 1))
        assert [m.value for m in await waiting] == [b"0"]


async def test_fetch_returns_a_message_that_exceeds_the_limit(log: EventLog, where: TopicPartition) -> None:
    await log.append([Record(where, bytes(100_000))])
    async with log.subscribe("group", [where.topic]) as member:
        assert len((await fetch(member, 1, max_bytes=10))[0].value) == 100_000


async def test_a_position_and_its_metadata_are_kept_for_the_next_member(
    backend: Backend, where: TopicPartition
) -> None:
    log = await backend.open()
    await log.append(numbered(where, 5))
    async with log.subscribe("group", [where.topic]) as member:
        assert await member.committed(where) is None
        await fetch(member, 5)
        await member.commit({where: Committed(1, "first")})
        await member.commit({where: Committed(2, '{"hi": 4, "ü": 1}')})
        assert await member.committed(where) == Committed(2, '{"hi": 4, "ü": 1}')
    await log.aclose()
    again = await backend.open()
    async with again.subscribe("group", [where.topic]) as member:
        assert [m.offset for m in await fetch(member, 3)] == [2, 3, 4]
        assert await member.committed(where) == Committed(2, '{"hi": 4, "ü": 1}')
        await member.commit({where: Committed(5)})
        assert await member.committed(where) == Committed(5, "")


async def test_uncommitted_messages_come_again(log: EventLog, where: TopicPartition) -> None:
    await log.append(numbered(where, 2))
    for _ in range(2):
        async with log.subscribe("group", [where.topic]) as member:
            assert [m.offset for m in await fetch(member, 2)] == [0, 1]


async def test_groups_do_not_see_each_other(log: EventLog, where: TopicPartition) -> None:
    await log.append(numbered(where, 2))
    async with log.subscribe("one", [where.topic]) as one, log.subscribe("other", [where.topic]) as other:
        assert len(await fetch(one, 2)) == len(await fetch(other, 2)) == 2
        await one.commit({where: Committed(2)})
        assert await other.committed(where) is None


async def test_commit_stores_all_positions_or_none(log: EventLog, topic: str) -> None:
    mine, nobody_s = TopicPartition(topic, 0), TopicPartition(topic, PARTITIONS)
    await log.append(numbered(mine, 1))
    async with log.subscribe("group", [topic]) as member:
        await fetch(member, 1)
        with pytest.raises(FencedError):
            await member.commit({mine: Committed(1), nobody_s: Committed(1)})
        assert await member.committed(mine) is None


async def test_seek_moves_the_next_fetch(log: EventLog, where: TopicPartition) -> None:
    await log.append(numbered(where, 5))
    async with log.subscribe("group", [where.topic]) as member:
        await fetch(member, 5)
        await member.seek(where, 3)
        assert [m.offset for m in await fetch(member, 2)] == [3, 4]
        await member.seek(where, 0)
        assert [m.offset for m in await fetch(member, 5)] == [0, 1, 2, 3, 4]


async def test_retention_takes_the_oldest_and_says_so(backend: Backend, log: EventLog, where: TopicPartition) -> None:
    await log.append(numbered(where, 20, size=1_000))
    async with log.subscribe("group", [where.topic]) as member:
        await fetch(member, 20)
        await member.commit({where: Committed(0)})
    await backend.trim(where)
    first, end = await log.bounds(where)
    assert 0 < first < end
    with pytest.raises(OffsetOutOfRangeError) as caught:
        await log.read(where, first - 1, max_bytes=PLENTY)
    assert (caught.value.first, caught.value.end) == (first, end)
    assert [m.offset for m in await log.read(where, first, max_bytes=PLENTY)] == list(range(first, end))
    assert await log.append(numbered(where, 1)) == [end]

    async with log.subscribe("group", [where.topic]) as member:
        with pytest.raises(OffsetOutOfRangeError):
            await fetch(member, 1)
        await member.seek(where, first)
        assert (await fetch(member, 1))[0].offset == first


async def test_a_member_that_lost_a_partition_cannot_commit(backend: Backend, topic: str) -> None:
    everything = {TopicPartition(topic, number) for number in range(PARTITIONS)}
    older, newer = await backend.open(), await backend.open()
    await older.append([record for where in everything for record in numbered(where, 3)])
    async with older.subscribe("group", [topic]) as old:
        await fetch(old, 3 * PARTITIONS)
        generation = old.generation
        await old.commit({where: Committed(1, "old") for where in everything})
        async with newer.subscribe("group", [topic]) as new:
            lost = await settled(old, new, everything)
            assert lost
            assert old.generation > generation
            for where in lost:
                with pytest.raises(FencedError):
                    await old.commit({where: Committed(3, "too late")})
                with pytest.raises(FencedError):
                    await old.seek(where, 0)
                assert await new.committed(where) == Committed(1, "old")
            await new.commit({where: Committed(2, "new") for where in new.assignment})
            assert {await old.committed(where) for where in new.assignment} == {Committed(2, "new")}
        await settled(old, new, everything)
        assert old.assignment == everything


async def settled(old: Subscription, new: Subscription, everything: set[TopicPartition]) -> frozenset[TopicPartition]:
    """Fetch with both members until each partition has one owner; return what the new one got."""
    deadline = time.monotonic() + PATIENCE_S
    while new.assignment == old.assignment or new.assignment | old.assignment != everything:
        assert time.monotonic() < deadline, f"{old.assignment} and {new.assignment} do not make {everything}"
        await old.fetch(max_bytes=PLENTY, timeout_s=0.05)
        if new.assignment:
            await new.fetch(max_bytes=PLENTY, timeout_s=0.05)
    return new.assignment
