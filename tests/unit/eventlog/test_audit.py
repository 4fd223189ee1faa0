"""The audit tells what is missing, from the log alone."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventlog import Message, Record, SqliteEventLog, TopicPartition
from eventlog.audit import Audit, audit
from eventlog.cloudevents import headers
from eventlog.codec import encode
from eventlog.emitter import Emitter
from eventlog.schema import FACTS
from tests.golden.eventlog import make

LEG, EMITTER = FACTS["leg"], FACTS["emitter"]
WHERE = TopicPartition(LEG.topic, 0)

Keep = Callable[[int, Message], Sequence[Message]]
"""What becomes of the n-th message of a topic on its way into a second log."""


async def a_log(path: Path) -> SqliteEventLog:
    """A log with five chunks of three `leg` facts each, of one producer that ended in order."""
    log = SqliteEventLog(path)
    edge = Emitter(lambda: SqliteEventLog(path), role="edge", region="eu", host_id="host", chunk_rows=3)
    for number in range(15):
        session = bytes([number]) * 16
        edge.add(LEG, session_id=session, region="eu", observed_ns=number, leg="client_edge", method="stun", rtt_us=1)
    edge.start()
    edge.close(30)
    return log


async def audit_after(tmp_path: Path, topic: str, keep: Keep) -> Audit:
    """Audit a log in which one topic's messages were treated badly."""
    log, other = await a_log(tmp_path / "log.sqlite"), SqliteEventLog(tmp_path / "other.sqlite")
    for name in (LEG.topic, EMITTER.topic):
        messages = await log.read(TopicPartition(name, 0), 0, max_bytes=1 << 30)
        for number, message in enumerate(messages):
            for kept in keep(number, message) if name == topic else [message]:
                await other.append([Record(kept.where, kept.value, kept.headers, kept.key)])
    result = await audit(other)
    await log.aclose()
    await other.aclose()
    return result


async def test_a_whole_log(tmp_path: Path) -> None:
    result = await audit_after(tmp_path, LEG.topic, lambda _, message: [message])
    part = result.by_type["leg"]
    assert (part.rows, part.chunks, part.accounted_captured, part.accounted_emitted) == (15, 5, 15, 15)
    assert (part.missing_chunks, part.repeated_chunks, part.bad_chunks, part.shed) == (0, 0, 0, {})
    assert result.by_type["emitter"].rows == 2
    assert result.by_type["packet"].rows == 0
    assert result.unfinished == ()
    assert result.complete


@pytest.mark.parametrize(("lost", "missing"), [(0, 1), (2, 1), (4, 0)])
async def test_a_lost_chunk(tmp_path: Path, lost: int, missing: int) -> None:
    result = await audit_after(tmp_path, LEG.topic, lambda number, message: [] if number == lost else [message])
    part = result.by_type["leg"]
    assert (part.rows, part.missing_chunks, part.accounted_emitted) == (12, missing, 15)
    assert not result.complete  # even the last one, which no sequence shows: the account does


async def test_a_chunk_that_came_twice_counts_once(tmp_path: Path) -> None:
    result = await audit_after(tmp_path, LEG.topic, lambda number, message: [message] * (2 if number == 1 else 1))
    part = result.by_type["leg"]
    assert (part.rows, part.chunks, part.repeated_chunks) == (15, 5, 1)
    assert result.complete


async def test_a_message_without_headers(tmp_path: Path) -> None:
    bare = Message(WHERE, 0, b"", {}, None, 0)
    result = await audit_after(tmp_path, LEG.topic, lambda number, message: [bare if number == 1 else message])
    part = result.by_type["leg"]
    assert (part.rows, part.missing_chunks, part.bad_chunks) == (12, 1, 1)
    assert not result.complete


async def test_a_producer_without_a_final_account(tmp_path: Path) -> None:
    result = await audit_after(tmp_path, EMITTER.topic, lambda _, __: [])
    assert len(result.unfinished) == 1
    assert result.unfinished[0].startswith("edge/eu/host/")
    assert result.by_type["leg"].accounted_emitted == 0
    assert not result.complete


async def test_of_many_accounts_the_last_counts(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.sqlite")
    for sequence, (emitted, spooled) in enumerate([(5, 0), (15, 5), (10, 0)]):
        row = make.rows(EMITTER, 2)[1] | {"producer": "p", "fact_type": "leg", "captured": 30, "emitted": emitted}
        row |= {"spooled": spooled, "final": False, "shed": [["backlog_full", 10]]}
        data = encode(EMITTER, make.batch(EMITTER, [row]))
        where = TopicPartition(EMITTER.topic, 0)
        await log.append([Record(where, data, headers(EMITTER, "p", sequence, 1, data, 0))])
    result = await audit(log)
    await log.aclose()
    assert result.by_type["leg"].accounted_emitted == 20
    assert result.by_type["leg"].shed == {"backlog_full": 10}
    assert result.unfinished == ("p",)


def test_a_process_without_pandas_emits_and_audits(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from eventlog.lean import without_pandas\n"
        "without_pandas()\n"
        "from eventlog import Emitter, SqliteEventLog\n"
        "from eventlog.audit import audit\n"
        "from eventlog.schema import FACTS\n"
        "edge = Emitter(lambda: SqliteEventLog(sys.argv[1]), role='edge', region='eu', host_id='host')\n"
        "edge.start()\n"
        "edge.add(FACTS['session'], session_id=bytes(16), region='eu', observed_ns=1, step='offered', attributes={})\n"
        "edge.close(30)\n"
        "async def main():\n"
        "    log = SqliteEventLog(sys.argv[1])\n"
        "    result = await audit(log)\n"
        "    await log.aclose()\n"
        "    print(result.complete, result.by_type['session'].rows, 'pandas' in sys.modules)\n"
        "asyncio.run(main())\n"
        "import pandas, pyarrow\n"
        "print(pyarrow.table({'a': [1]}).to_pandas()['a'].tolist())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "log"], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["True 1 False", "[1]"]
    assert ran.stderr == ""
