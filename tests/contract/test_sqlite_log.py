"""What the SQLite log promises beyond the port: many processes, kills, limits, and errors that say what to do."""

# ruff: noqa: ASYNC220, ASYNC240 - nothing else runs on these tests' loops

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from eventlog import (
    Committed,
    FencedError,
    LogCorruptError,
    LogUnavailableError,
    OffsetOutOfRangeError,
    Record,
    SqliteEventLog,
    TopicPartition,
)

WHERE = TopicPartition("topic", 0)
OTHER = TopicPartition("other", 0)
PLENTY = 1 << 30
WRITER = Path(__file__).with_name("sqlite_writer.py")

Open = Callable[..., SqliteEventLog]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
async def open_log(path: Path) -> AsyncIterator[Open]:
    opened: list[SqliteEventLog] = []

    def make(at: Path = path, **options: float) -> SqliteEventLog:
        opened.append(SqliteEventLog(at, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for log in opened:
        await log.aclose()


def writer(path: Path, name: str, size: int = 1_000) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, WRITER, path, name, str(size)], stdout=subprocess.PIPE, text=True)


def acknowledged(process: subprocess.Popen[str], lines: int) -> list[list[int]]:
    assert process.stdout is not None
    return [list(map(int, process.stdout.readline().split())) for _ in range(lines)]


def kill(process: subprocess.Popen[str]) -> list[list[int]]:
    """Kill a writer in the middle of its work and return what else it had been told is stored."""
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    whole = rest.splitlines(keepends=True)
    return [list(map(int, line.split())) for line in whole if line.endswith("\n")]


async def test_two_writers_are_killed_and_nothing_acknowledged_is_lost(path: Path, open_log: Open) -> None:
    writers = {name: writer(path, name, size) for name, size in (("small", 100), ("big", 400_000))}
    told = {name: acknowledged(process, 10) for name, process in writers.items()}
    log = open_log()
    async with log.subscribe("group", [WHERE.topic]) as member:  # reads while they write
        seen = await member.fetch(max_bytes=PLENTY, timeout_s=5)
        for name, process in writers.items():
            told[name] += kill(process)
        while more := await member.fetch(max_bytes=PLENTY, timeout_s=0.1):
            seen += more
    assert [message.offset for message in seen] == list(range(len(seen)))
    values = [message.value for message in seen]
    for name, lines in told.items():
        assert len(lines) >= 10
        for number, first, second in lines:
            assert values[first].startswith(b"%s %d \0" % (name.encode(), number))
            assert values[second] == b"%s %d second" % (name.encode(), number)
    # What was not acknowledged is there whole, or not at all: the two records of one append come together.
    firsts = [value for value in values if not value.endswith(b"second")]
    assert len(values) == 2 * len(firsts)
    assert await log.append([Record(WHERE, b"the log goes on")]) == [len(values)]


async def test_processes_that_make_the_same_file_at_once(path: Path, open_log: Open) -> None:
    writers = [writer(path, str(number)) for number in range(3)]
    for process in writers:
        acknowledged(process, 1)
        kill(process)
    log = open_log(partitions=7)
    assert await log.partitions(WHERE.topic) == 1
    first, end = await log.bounds(WHERE)
    assert (first, end >= 6) == (0, True)


async def test_the_file_s_number_of_partitions_holds(open_log: Open) -> None:
    assert await open_log(partitions=3).partitions("any") == 3
    assert await open_log(partitions=5).partitions("any") == 3
    with pytest.raises(ValueError, match="at least one"):
        SqliteEventLog("never made", partitions=0)


async def test_size_limit_takes_the_oldest_of_all_topics(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=10_000)
    for _ in range(30):
        await log.append([Record(WHERE, bytes(400)), Record(OTHER, bytes(400))])
    for where in (WHERE, OTHER):
        first, end = await log.bounds(where)
        assert end == 30
        assert end - first == 12
        assert [m.offset for m in await log.read(where, first, max_bytes=PLENTY)] == list(range(first, end))
    with sqlite3.connect(path) as connection:
        (counted,) = connection.execute("SELECT sum(bytes) FROM streams").fetchone()
        (actual,) = connection.execute("SELECT sum(length(value) + length(headers)) FROM messages").fetchone()
    assert counted == actual <= 10_000


async def test_the_file_stops_growing(path: Path, open_log: Open) -> None:
    log = open_log(max_bytes=2_000_000)
    for _ in range(100):
        await log.append([Record(WHERE, os.urandom(100_000))])
    await log.aclose()
    assert path.stat().st_size < 3 * 2_000_000


async def test_what_is_over_the_limit_alone_is_still_kept_until_the_next(open_log: Open) -> None:
    log = open_log(max_bytes=1_000)
    await log.append([Record(WHERE, bytes(5_000)), Record(WHERE, bytes(5_000))])
    assert await log.bounds(WHERE) == (0, 2)
    await log.append([Record(OTHER, b"small")])
    assert await log.bounds(WHERE) == (2, 2)
    with pytest.raises(OffsetOutOfRangeError):
        await log.read(WHERE, 0, max_bytes=PLENTY)
    assert await log.append([Record(WHERE, b"next")]) == [2]


async def test_age_limit(path: Path, open_log: Open) -> None:
    log = open_log(max_age_s=3_600)
    await log.append([Record(WHERE, b"old"), Record(OTHER, b"old")])
    await log.append([Record(WHERE, b"young")])
    with sqlite3.connect(path) as connection:  # an hour goes by
        connection.execute("UPDATE messages SET appended_ns = appended_ns - 3601000000000 WHERE value = x'6f6c64'")
    connection.close()
    await log.append([Record(OTHER, b"new")])
    assert await log.bounds(WHERE) == (1, 2)
    assert await log.bounds(OTHER) == (1, 2)


async def test_the_newest_member_takes_over_and_gives_back(open_log: Open) -> None:
    log, other = open_log(), open_log()
    await log.append([Record(WHERE, b"%d" % number) for number in range(3)])
    async with log.subscribe("group", [WHERE.topic]) as old:
        assert len(await old.fetch(max_bytes=PLENTY, timeout_s=1)) == 3
        async with other.subscribe("group", [WHERE.topic]) as new:
            assert new.generation == old.generation + 1
            await new.commit({WHERE: Committed(1, "new")})
            with pytest.raises(FencedError, match="drop the work"):
                await old.commit({WHERE: Committed(3)})
            assert await old.fetch(max_bytes=PLENTY, timeout_s=0) == []
            assert (old.assignment, old.generation) == (frozenset(), new.generation)
            assert await new.committed(WHERE) == Committed(1, "new")
        assert await old.fetch(max_bytes=PLENTY, timeout_s=0) == []  # it takes over, and says so before it goes on
        assert (old.assignment, old.generation) == (frozenset({WHERE}), new.generation + 1)
        assert [m.offset for m in await old.fetch(max_bytes=PLENTY, timeout_s=1)] == [1, 2]
        with pytest.raises(FencedError):
            await new.commit({WHERE: Committed(3)})
    with pytest.raises(FencedError, match="joined"):
        await old.fetch(max_bytes=PLENTY, timeout_s=0)


async def test_a_killed_member_does_not_block_the_group(path: Path, open_log: Open) -> None:
    code = (
        "import asyncio, sys, time\n"
        "from eventlog import *\n"
        "async def main():\n"
        "    log = SqliteEventLog(sys.argv[1])\n"
        "    where = TopicPartition('topic', 0)\n"
        "    await log.append([Record(where, b'a')])\n"
        "    async with log.subscribe('group', ['topic']) as member:\n"
        "        await member.commit({where: Committed(1, 'left by the dead')})\n"
        "        print('joined', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"joined\n"
        process.kill()
    async with open_log().subscribe("group", [WHERE.topic]) as member:
        assert await member.committed(WHERE) == Committed(1, "left by the dead")
        assert member.generation == 2


@pytest.mark.parametrize("damage", ["junk", "torn", "header"])
async def test_a_damaged_file_is_named_with_a_remedy(path: Path, open_log: Open, damage: str) -> None:
    log = open_log()
    await log.append([Record(WHERE, os.urandom(50_000)) for _ in range(20)])
    await log.aclose()
    content = path.read_bytes()
    if damage == "junk":
        path.write_bytes(b"this is not a database" * 1_000)
    elif damage == "torn":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(bytes(100) + content[100:])
    broken = open_log()
    with pytest.raises(LogCorruptError, match=r"log\.sqlite.* damaged.*move the file away"):
        await broken.read(WHERE, 0, max_bytes=PLENTY)


async def test_another_program_s_file_is_left_alone(path: Path, open_log: Open) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(LogCorruptError, match="no Sidetone event log; choose another path"):
        await open_log().bounds(WHERE)


async def test_a_newer_format_asks_for_an_upgrade(path: Path, open_log: Open) -> None:
    log = open_log()
    await log.bounds(WHERE)
    await log.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogCorruptError, match="upgrade"):
        await open_log().bounds(WHERE)


async def test_a_missing_folder_says_so_and_is_found_once_it_is_there(tmp_path: Path, open_log: Open) -> None:
    log = open_log(tmp_path / "later" / "log.sqlite")
    with pytest.raises(LogUnavailableError, match="make sure that its folder exists and is writable"):
        await log.append([Record(WHERE, b"")])
    (tmp_path / "later").mkdir()
    assert await log.append([Record(WHERE, b"")]) == [0]


async def test_a_full_disk_says_so_and_stores_nothing(open_log: Open) -> None:
    log = open_log()
    await log.append([Record(WHERE, b"first")])

    def fill(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to run out of space

    await log.call(fill)
    with pytest.raises(LogUnavailableError, match=r"log\.sqlite.*disk is full; free some space"):
        await log.append([Record(WHERE, b"fits"), Record(WHERE, bytes(10_000_000))])
    assert await open_log().bounds(WHERE) == (0, 1)
    assert await log.append([Record(WHERE, bytes(10_000_000))]) == [1]  # reopened: there is space again


async def test_a_file_that_cannot_be_written_says_so(open_log: Open) -> None:
    log = open_log()
    await log.append([Record(WHERE, b"first")])

    def protect(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")  # permissions do not hold root back, this does

    await log.call(protect)
    with pytest.raises(LogUnavailableError, match="make the file and its folder writable"):
        await log.append([Record(WHERE, b"second")])


async def test_a_writer_that_holds_the_file_too_long(
    path: Path, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventlog.sqlite_db.BUSY_S", 0.05)
    log = open_log()
    await log.append([Record(WHERE, b"first")])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailableError, match="another process"):
        await log.append([Record(WHERE, b"second")])
    assert await log.bounds(WHERE) == (0, 1)  # reading goes on
    holder.execute("ROLLBACK")
    holder.close()
    assert await log.append([Record(WHERE, b"second")]) == [1]


async def test_waiting_readers_do_not_hold_up_the_loop(open_log: Open) -> None:
    log = open_log()
    async with log.subscribe("group", [WHERE.topic]) as member:
        waiting = asyncio.create_task(member.fetch(max_bytes=PLENTY, timeout_s=30))
        for number in range(20):
            await log.append([Record(OTHER, b"%d" % number)])
        assert not waiting.done()
        await log.append([Record(WHERE, b"wake")])
        assert [m.value for m in await waiting] == [b"wake"]
