"""What cannot be stored ends in the dead letters with its reason, costs nothing else, and can be replayed."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from bench.facts import START_NS, record, sample
from collector import (
    Collector,
    CollectorConfig,
    ReplayError,
    letters,
    migrate,
    original,
    replay,
    store_clients,
)
from collector.errors import PoisonError
from eventlog.port import EventLog, LogUnavailableError, Record, RefusedError, TopicPartition
from eventlog.schema import PACKET, TIME, TURN, UUID_TYPE
from eventlog.sqlite import SqliteEventLog
from sidetone.cli import app
from tests.integration.collector_tools import Store, differences, empty

WHERE = TopicPartition(TURN.topic, 1)
Spoil = Callable[[Record], Record]


@pytest.fixture
def config() -> CollectorConfig:
    return CollectorConfig(group=f"dead-{uuid.uuid4().hex}", topics=(TURN.topic,), retry_max_s=0.1)


def turns(seed: int) -> tuple[pa.RecordBatch, Record]:
    batch = sample(TURN, 12, np.random.default_rng(seed))
    return batch, record(TURN, batch, source=uuid.uuid4().hex, sequence=seed, partition=WHERE.partition)


def sealed(one: Record, value: bytes) -> Record:
    """Return the record with other bytes under a right checksum."""
    return replace(one, value=value, headers={**one.headers, "crc32c": f"{crc32c.crc32c(value):08x}"})


def with_column(name: str, values: list[Any], kind: pa.DataType) -> Spoil:
    def spoil(one: Record) -> Record:
        with pa.ipc.open_stream(one.value) as reader:
            batch = reader.read_next_batch()
        at = batch.schema.get_field_index(name)
        column = pa.array(values * batch.num_rows, kind)
        changed = batch.set_column(at, batch.schema.field(at), column)
        return replace(record(TURN, changed, source=one.headers["ce_source"], sequence=0), where=WHERE)

    return spoil


def of_another_type(one: Record) -> Record:
    packet = record(PACKET, sample(PACKET, 12, np.random.default_rng(0)), source="s", sequence=0)
    return sealed(one, packet.value)


SPOILED: dict[str, tuple[str, Spoil]] = {
    "unknown type": ("unknown_type", lambda one: replace(one, headers={**one.headers, "ce_type": "sidetone.dream.v1"})),
    "bad checksum": ("bad_checksum", lambda one: replace(one, value=one.value[:-1] + b"\x01")),
    "truncated Arrow": ("truncated", lambda one: sealed(one, one.value[: len(one.value) // 2])),
    "wrong schema": ("wrong_schema", of_another_type),
    "no headers": ("bad_header", lambda one: replace(one, headers={})),
    "a session id that is none": ("bad_session", with_column("session_id", [b"not-a-session-id"], UUID_TYPE)),
    "a time in 1970": ("bad_time", with_column("observed_ns", [86_400_000_000_000], TIME)),
    "a time far ahead": ("bad_time", with_column("observed_ns", [START_NS + 20 * 365 * 86_400 * 10**9], TIME)),
}


@pytest.mark.parametrize("what", SPOILED)
async def test_bad_input_ends_in_the_dead_letters_with_its_reason_and_costs_nothing_else(
    what: str, log: EventLog, store: Store, client: Client, config: CollectorConfig
) -> None:
    reason, spoil = SPOILED[what]
    (before, first), (_, middle), (after, last) = turns(1), turns(2), turns(3)
    bad = spoil(middle)
    _, at, _ = await log.append([first, bad, last])
    await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
    assert differences(client, {TURN.name: [before, after]}) == {}
    (letter,) = [one for one in await letters(log) if (one.where, one.offset) == (WHERE, at)]
    assert (letter.reason, letter.value_bytes) == (reason, len(bad.value))
    assert letter.detail
    kept = await original(log, letter)
    assert (kept.value, dict(kept.headers), kept.key) == (bad.value, dict(bad.headers), bad.key)


async def test_a_message_of_100_mb_is_refused_or_dead_lettered_and_costs_nothing_else(
    log: EventLog, store: Store, client: Client, config: CollectorConfig
) -> None:
    (before, first), (_, middle), (after, last) = turns(4), turns(5), turns(6)
    huge = sealed(middle, bytes(100 << 20))
    await log.append([first])
    try:
        (at,) = await log.append([huge])
    except RefusedError as error:
        assert "104857600 bytes" in str(error)  # noqa: PT017 - only one of the logs refuses
        at = -1
    await log.append([last])
    await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
    assert differences(client, {TURN.name: [before, after]}) == {}
    if at < 0:
        return
    (letter,) = [one for one in await letters(log) if (one.where, one.offset) == (WHERE, at)]
    assert (letter.reason, letter.value_bytes, letter.value_kept) == ("too_large", 100 << 20, False)
    with pytest.raises(ReplayError, match="104857600 bytes, which are not kept"):
        await replay(log, letter)


async def test_a_letter_is_replayed_once_its_cause_is_gone_and_stored_once(
    log: EventLog, store: Store, client: Client, config: CollectorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, one = turns(7)
    (at,) = await log.append([one])
    with monkeypatch.context() as older:  # a collector from before the type was known
        older.setattr("eventlog.cloudevents.BY_CE_TYPE", {})
        await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
        (letter,) = [found for found in await letters(log) if (found.where, found.offset) == (WHERE, at)]
        with pytest.raises(ReplayError, match="would be refused again"):
            await replay(log, letter)
    assert client.command("SELECT count() FROM sidetone.turns") == 0
    to = await replay(log, letter)
    (letter,) = [found for found in await letters(log) if (found.where, found.offset) == (WHERE, at)]
    assert letter.replayed_to == to
    await replay(log, letter)
    await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
    assert differences(client, {TURN.name: [batch]}) == {}


async def test_a_letter_is_in_the_log_before_the_position_passes_and_listed_once(
    store: Store, client: Client, config: CollectorConfig, tmp_path: Path
) -> None:
    class Unwell(SqliteEventLog):
        """Takes no dead letters at first."""

        refusals = 2

        async def append(self, records: Any) -> list[int]:
            if records[0].where.topic != TURN.topic and self.refusals:
                self.refusals -= 1
                raise LogUnavailableError("not now")
            return await super().append(records)

    log = Unwell(tmp_path / "log.sqlite", partitions=2)
    batch, one = turns(8)
    await log.append([replace(one, headers={}), one])

    def crash(progress: Any) -> None:
        if progress.stage == "inserted":
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config, observers=[crash]).drain()
    assert log.refusals == 0
    await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
    assert [letter.offset for letter in await letters(log)] == [0]
    assert differences(client, {TURN.name: [batch]}) == {}
    await log.aclose()


async def test_a_range_that_is_tried_again_is_no_longer_run_of_poison(
    tmp_path: Path, config: CollectorConfig, store: Store
) -> None:
    class Unwell(SqliteEventLog):
        refusals = 4

        async def append(self, records: Any) -> list[int]:
            if records[0].where.topic != TURN.topic and self.refusals:
                self.refusals -= 1
                raise LogUnavailableError("not now")
            return await super().append(records)

    log = Unwell(tmp_path / "log.sqlite", partitions=2)
    _, one = turns(10)
    await log.append([replace(one, headers={})] * 3)
    clients = store_clients("127.0.0.1", store.port, timeout_s=30)
    await Collector(log, clients, replace(config, poison_limit=5)).drain()
    assert log.refusals == 0
    assert [letter.offset for letter in await letters(log)] == [0, 1, 2]
    await log.append([replace(one, headers={})] * 6)
    with pytest.raises(PoisonError, match="6 messages in a row"):
        await Collector(log, clients, replace(config, poison_limit=5)).drain()
    await log.aclose()


def test_the_commands_list_show_and_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("SIDETONE_DATA_DIR", str(tmp_path))
    migrate(store.client())
    empty(store.client())
    batch, one = turns(9)
    config = CollectorConfig(topics=(TURN.topic,))

    async def collect(*records: Record) -> None:
        log = SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
        if records:
            await log.append(records)
        await Collector(log, store_clients("127.0.0.1", store.port, timeout_s=30), config).drain()
        await log.aclose()

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["dlq", *arguments])
        assert result.exit_code == status, result.output
        return result.stdout

    with monkeypatch.context() as older:
        older.setattr("eventlog.cloudevents.BY_CE_TYPE", {})
        asyncio.run(collect(one))
    asyncio.run(collect(replace(one, headers={})))
    listed = json.loads(run("list", "--json"))["letters"]
    assert [letter["reason"] for letter in listed] == ["unknown_type", "bad_header"]
    name = f"{TURN.topic}:1:0"
    assert listed[0]["id"] == name
    assert "2 dead letters" in run("list")
    shown = json.loads(run("show", name, "--raw", str(tmp_path / "raw"), "--json"))
    assert shown["headers"] == dict(one.headers)
    assert (tmp_path / "raw").read_bytes() == one.value
    result = json.loads(run("replay", "--all", "--json", status=1))
    assert result["replayed"] == {name: 2}
    assert list(result["left"]) == [f"{TURN.topic}:1:1"]
    assert json.loads(run("list", "--json"))["letters"][0]["replayed_to"] == 2
    asyncio.run(collect())
    assert differences(store.client(), {TURN.name: [batch]}) == {}
