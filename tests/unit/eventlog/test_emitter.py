"""From a process's facts to the log: what was captured arrives, or is accounted for."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from eventlog import Account, Emitter, LogUnavailableError, Message, Record, SqliteEventLog, TopicPartition, open_chunk
from eventlog.audit import Audit, audit
from eventlog.partitioner import partition_for
from eventlog.schema import FACTS, NO_SESSION
from tests.golden.eventlog import make

PACKET, TURN, SESSION, LEG = FACTS["packet"], FACTS["turn"], FACTS["session"], FACTS["leg"]
CLIENT = FACTS["client"]
SESSIONS = [bytes([number] * 15 + [0]) for number in range(1, 6)]
START_NS = 1_790_000_000_000_000_000
PATIENCE_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


def emitter(open_log: Callable[[], Any], **options: Any) -> Emitter:
    return Emitter(open_log, role="edge", region="eu", host_id="host", **({"flush_s": 0.02} | options))


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not happened():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def add_turn(to: Emitter, number: int, session: bytes = SESSIONS[0], **changed: Any) -> None:
    columns = {"mono_ns": number, "turn_id": 1, "kind": "backchannel", "actor": "user", "at_ns": START_NS} | changed
    to.add(TURN, session_id=session, region="eu", observed_ns=START_NS + number, **columns)


def packet_columns(rows: int, first: int = 0) -> dict[str, Any]:
    numbers = np.arange(first, first + rows)
    return {
        "session_id": np.frombuffer(b"".join(SESSIONS[n % 5] for n in numbers.tolist()), "S16"),
        "region": "eu",
        "observed_ns": START_NS + numbers * 1_000,
        "tap": ["edge_up" if n % 2 else "edge_down" for n in numbers.tolist()],
        "stream": (numbers % 3).astype(np.uint32),
        "ext_seq": numbers,
        "rtp_ts": pa.array(numbers * 960, pa.uint32()),
        "payload_type": 111,
        "marker": numbers == 0,
        "size_bytes": np.full(rows, 100, np.uint16),
        "transit_delta_us": np.ma.masked_array(numbers, mask=numbers % 2 == 0),
        "newly_lost": np.zeros(rows, np.int32),
        "reordered": False,
        "duplicate": np.zeros(rows, bool),
    }


async def stored(path: Path) -> dict[str, list[Message]]:
    """All messages of the log by fact type."""
    log = SqliteEventLog(path)
    found: dict[str, list[Message]] = {}
    for name, fact in FACTS.items():
        found[name] = []
        for partition in range(await log.partitions(fact.topic)):
            found[name] += await log.read(TopicPartition(fact.topic, partition), 0, max_bytes=1 << 30)
    await log.aclose()
    return found


def rows_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [row for message in messages for row in make.plain(open_chunk(message)[2])]


async def audited(path: Path) -> Audit:
    log = SqliteEventLog(path)
    result = await audit(log)
    await log.aclose()
    return result


def check(accounts: Mapping[str, Account]) -> None:
    for account in accounts.values():
        assert account.captured == account.emitted + sum(account.shed.values())


async def test_every_type_arrives_as_it_was_added(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    edge.start()
    wanted: dict[str, list[dict[str, Any]]] = {}
    for name, fact in FACTS.items():
        if name == "emitter":
            continue
        wanted[name] = make.rows(fact, 7)
        for row, values in zip(
            wanted[name], make.batch(fact, wanted[name]).drop_columns(_times(fact)).to_pylist(), strict=True
        ):
            row["host_id"] = "host"
            columns = {key: value for key, value in values.items() if key not in {"host_id", "session_id", "region"}}
            columns |= {key: row[key] for key in _times(fact) if key != "observed_ns"}
            columns |= {key: dict(value) for key, value in columns.items() if isinstance(value, list)}
            columns = {key: value for key, value in columns.items() if value is not None}
            edge.add(
                fact,
                session_id=values["session_id"],
                region=values["region"],
                observed_ns=row["observed_ns"],
                **columns,
            )
    accounts = edge.close(PATIENCE_S)
    check(accounts)
    found = await stored(path)
    for name, rows in wanted.items():
        assert sorted(rows_of(found[name]), key=_time) == sorted(rows, key=_time)
        assert accounts[name] == Account(captured=7, emitted=7)
    result = await audited(path)
    assert result.complete
    assert {name: part.rows for name, part in result.by_type.items()} == dict.fromkeys(wanted, 7) | {"emitter": 9}


def _time(row: dict[str, Any]) -> int:
    return int(row["observed_ns"])


def _times(fact: Any) -> list[str]:
    return [field.name for field in fact.schema if pa.types.is_timestamp(field.type)]


async def test_columns_arrive_and_may_be_reused(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path), chunk_rows=300)
    columns = packet_columns(1_000)
    edge.add_columns(PACKET, columns, 1_000)
    columns["size_bytes"][:] = 0
    columns["ext_seq"][:] = 0
    edge.add_columns(PACKET, packet_columns(10, first=1_000), 10)
    edge.start()
    check(edge.close(PATIENCE_S))
    rows = sorted(rows_of((await stored(path))["packet"]), key=lambda row: int(row["ext_seq"]))
    assert [row["ext_seq"] for row in rows] == list(range(1_010))
    assert [row["session_id"] for row in rows] == [SESSIONS[n % 5].hex() for n in range(1_010)]
    assert [row["observed_ns"] for row in rows] == [START_NS + n * 1_000 for n in range(1_010)]
    assert [row["transit_delta_us"] for row in rows] == [n if n % 2 else None for n in range(1_010)]
    assert {row["size_bytes"] for row in rows} == {100}
    assert {(row["payload_type"], row["host_id"], row["dscp"]) for row in rows} == {(111, "host", None)}


async def test_sequences_are_gapless_and_chunks_hold_one_partition(path: Path) -> None:
    await SqliteEventLog(path, partitions=3).partitions("any")
    edge = emitter(lambda: SqliteEventLog(path), chunk_rows=7)
    edge.start()
    for number in range(40):
        add_turn(edge, number, SESSIONS[number % 5])
        edge.add_columns(PACKET, packet_columns(5, first=5 * number), 5)
    check(edge.close(PATIENCE_S))
    for name, messages in (await stored(path)).items():
        sequences = []
        for message in messages:
            fact, header, batch = open_chunk(message)
            sequences.append(header.sequence)
            plain = make.plain(batch)
            assert header.source == edge.source
            assert batch.num_rows <= 7 or name == "emitter"
            assert {partition_for(bytes.fromhex(row["session_id"]), 3) for row in plain} == {message.where.partition}
            order = [tuple(row[column] for column in fact.order) for row in plain]
            assert order == sorted(order)
        assert sorted(sequences) == list(range(len(messages)))
    rows = rows_of((await stored(path))["packet"])
    assert len({tuple(row[column] for column in PACKET.identity) for row in rows}) == len(rows) == 200


async def test_the_final_accounts_are_facts_too(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    edge.start()
    add_turn(edge, 1)
    edge.shed(PACKET, "no_session", 12)
    accounts = edge.close(PATIENCE_S)
    rows = {row["fact_type"]: row for row in rows_of((await stored(path))["emitter"])}
    assert rows.keys() == {"turn", "packet", "emitter"}
    for name, row in rows.items():
        assert (row["captured"], row["emitted"], dict(row["shed"])) == (
            accounts[name].captured,
            accounts[name].emitted,
            accounts[name].shed,
        )
        assert (row["producer"], row["role"], row["region"], row["final"]) == (edge.source, "edge", "eu", True)
        assert row["session_id"] == NO_SESSION.hex()
    assert accounts["packet"] == Account(captured=12, shed={"no_session": 12})
    assert not (await audited(path)).complete


def test_two_emitters_are_two_sources(path: Path) -> None:
    assert emitter(lambda: SqliteEventLog(path)).source != emitter(lambda: SqliteEventLog(path)).source


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"turnid": 1}, "take no .*turnid"),
        ({"host_id": "other"}, "take no .*host_id"),
        ({"session_id": b"short"}, "16 bytes"),
    ],
)
def test_an_error_of_the_program_is_raised_at_once(path: Path, changed: dict[str, Any], message: str) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    columns: dict[str, Any] = {
        "session_id": NO_SESSION,
        "mono_ns": 1,
        "turn_id": 1,
        "kind": "k",
        "actor": "user",
        "at_ns": 1,
    } | changed
    with pytest.raises(ValueError, match=message):
        edge.add(TURN, region="eu", observed_ns=1, **columns)
    with pytest.raises(ValueError, match=r"need .*mono_ns"):
        edge.add(TURN, session_id=NO_SESSION, region="eu", observed_ns=1, turn_id=1)
    assert edge.accounts()["turn"].captured == 0


def test_columns_of_wrong_names_or_lengths_are_refused_at_once(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    with pytest.raises(ValueError, match=r"packet\.size_bytes has 9 values for 10 rows"):
        edge.add_columns(PACKET, packet_columns(10) | {"size_bytes": np.zeros(9)}, 10)
    with pytest.raises(ValueError, match=r"take no .*ssrc"):
        edge.add_columns(PACKET, packet_columns(0) | {"ssrc": 1}, 0)
    with pytest.raises(ValueError, match=r"need .*tap"):
        edge.add_columns(PACKET, {k: v for k, v in packet_columns(1).items() if k != "tap"}, 1)
    assert edge.accounts()["packet"].captured == 0


async def test_bad_values_cost_only_their_own_rows(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    for number in range(100):
        wrong: dict[int, dict[str, Any]] = {37: {"turn_id": -1}, 53: {"kind": None}, 71: {"audio_ms": math.nan}}
        add_turn(edge, number, **wrong.get(number, {}))
    for number in range(4):
        values = {"jitter": 0.5, "roundTripTime": math.inf if number == 2 else 0.1}
        edge.add(CLIENT, session_id=NO_SESSION, region="eu", observed_ns=number, kind="inbound-rtp", values=values)
    edge.add_columns(PACKET, packet_columns(10) | {"size_bytes": np.full(10, 70_000)}, 10)
    edge.add_columns(PACKET, packet_columns(10), 10)
    edge.start()
    accounts = edge.close(PATIENCE_S)
    assert accounts["turn"] == Account(captured=100, emitted=97, shed={"invalid": 3})
    assert accounts["client"] == Account(captured=4, emitted=3, shed={"invalid": 1})
    assert accounts["packet"] == Account(captured=20, emitted=10, shed={"invalid": 10})
    assert {row["mono_ns"] for row in rows_of((await stored(path))["turn"])} == set(range(100)) - {37, 53, 71}


async def test_many_threads_add_at_once(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    edge.start()

    def work(thread: int) -> None:
        for number in range(1_000):
            add_turn(edge, number, SESSIONS[thread])

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=4_000, emitted=4_000)
    assert (await audited(path)).by_type["turn"].rows == 4_000


async def test_overload_sheds_the_oldest_and_never_raises(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path), max_pending_rows=1_000)
    for number in range(100):
        add_turn(edge, number)
    for number in range(50):
        edge.add_columns(PACKET, packet_columns(100, first=100 * number), 100)
    assert edge.accounts()["packet"].shed == {"backlog_full": 4_100}
    edge.start()
    accounts = edge.close(PATIENCE_S)
    assert accounts["packet"] == Account(captured=5_000, emitted=900, shed={"backlog_full": 4_100})
    assert accounts["turn"] == Account(captured=100, emitted=100)
    assert {row["ext_seq"] for row in rows_of((await stored(path))["packet"])} == set(range(4_100, 5_000))


async def test_facts_wait_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "later" / "log.sqlite"
    edge = emitter(lambda: SqliteEventLog(path))
    edge.start()
    add_turn(edge, 1)
    wait_until(lambda: edge.problem)
    assert "folder" in str(edge.problem)
    path.parent.mkdir()
    wait_until(lambda: edge.accounts()["turn"].emitted)
    assert edge.problem is None
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=1, emitted=1)
    assert (await audited(path)).complete


async def test_a_log_that_never_comes_is_given_up_in_time(tmp_path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(tmp_path / "never" / "log.sqlite"))
    edge.start()
    add_turn(edge, 1)
    accounts = edge.close(timeout_s=0.3)
    check(accounts)
    assert accounts["turn"] == Account(captured=1, shed={"close_timeout": 1})


class Faulty(SqliteEventLog):
    """The real log, whose appends fail as told: before storing, after storing, or never answering."""

    def __init__(self, path: Path, faults: list[str]) -> None:
        super().__init__(path)
        self.faults = faults

    async def append(self, records: Sequence[Record]) -> list[int]:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "before":
            raise LogUnavailableError("away")
        offsets = await super().append(records)
        if fault == "after":
            raise LogUnavailableError("stored, but the answer was lost")
        if fault == "bug":
            raise ZeroDivisionError
        return offsets


async def test_repeated_appends_keep_their_names_and_order(path: Path) -> None:
    faults = ["before", "after", "bug", "before"]
    edge = emitter(lambda: Faulty(path, faults))
    edge.start()
    for number in range(5):
        add_turn(edge, number)
        wait_until(lambda: edge.accounts()["turn"].emitted == edge.accounts()["turn"].captured)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=5, emitted=5)
    result = (await audited(path)).by_type["turn"]
    assert (result.rows, result.chunks, result.repeated_chunks, result.missing_chunks) == (5, 5, 2, 0)
    numbers = [row["mono_ns"] for row in rows_of((await stored(path))["turn"])]
    assert numbers == sorted(numbers)


async def test_a_log_that_never_answers_does_not_hold_the_process(path: Path) -> None:
    edge = emitter(lambda: Faulty(path, ["hang"] * 9))
    edge.start()
    add_turn(edge, 1)
    accounts = edge.close(timeout_s=0.3)
    check(accounts)
    assert accounts["turn"].shed == {"unacknowledged": 1}
    assert (await audited(path)).by_type["turn"].rows == 0


def test_closing_without_start_and_adding_after_close_are_accounted_for(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    add_turn(edge, 1)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=1, shed={"not_started": 1})
    add_turn(edge, 2)
    edge.add_columns(PACKET, packet_columns(3), 3)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=2, shed={"not_started": 1, "closed": 1})
    assert edge.accounts()["packet"].shed == {"closed": 3}
    with pytest.raises(RuntimeError, match="once"):
        edge.start()


def test_adding_after_an_orderly_close_is_accounted_for(path: Path) -> None:
    edge = emitter(lambda: SqliteEventLog(path))
    edge.start()
    edge.close(PATIENCE_S)
    add_turn(edge, 1)
    assert edge.accounts()["turn"] == Account(captured=1, shed={"closed": 1})
