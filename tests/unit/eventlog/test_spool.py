"""While the log is away facts wait on disk, and reach it in order when it returns, whatever happens meanwhile."""

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eventlog import Account, Emitter, LogUnavailableError, Record, RefusedError, SqliteEventLog, open_chunk
from eventlog.audit import Audit, audit
from eventlog.port import TopicPartition
from eventlog.schema import FACTS
from eventlog.spool import DAMAGED_AT_MOST, SpoolFolder
from tests.golden.eventlog import make

TURN, LEG = FACTS["turn"], FACTS["leg"]
SESSION = bytes([7] * 16)
START_NS = 1_790_000_000_000_000_000
PATIENCE_S = 30.0


class Place:
    """Where the log is, and whether it is to be had. `stop` is by the log's owner, not by the emitter."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.sqlite"
        self.spools = folder / "spool"
        self.away: str | None = None
        self.appended: list[list[int]] = []

    def open(self) -> "Log":
        return Log(self)

    def emitter(self, **options: Any) -> Emitter:
        given: dict[str, Any] = {"flush_s": 0.02, "spool_dir": self.spools, "partitions": 1} | options
        return Emitter(self.open, role="edge", region="eu", host_id="host", **given)

    def files(self, pattern: str = "*.sqlite") -> list[Path]:
        return sorted(self.spools.glob(pattern))


class Log(SqliteEventLog):
    """The real log, away as its place says."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.path)
        self.place = place

    async def partitions(self, topic: str) -> int:
        await self.answer()
        return await super().partitions(topic)

    async def append(self, records: Sequence[Record]) -> list[int]:
        if self.place.away == "refuses big ones" and any(len(record.value) > 20_000 for record in records):
            raise RefusedError("too big")
        await self.answer()
        return await super().append(records)

    async def answer(self) -> None:
        if self.place.away == "refuses":
            raise LogUnavailableError("away")
        while self.place.away == "hangs":  # noqa: ASYNC110 - another thread ends it
            await asyncio.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not happened():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def add(to: Emitter, first: int, count: int = 1, text: str = "x") -> None:
    for number in range(first, first + count):
        columns = {"mono_ns": number, "turn_id": 1, "kind": "backchannel", "actor": "user", "at_ns": START_NS}
        to.add(TURN, session_id=SESSION, region="eu", observed_ns=START_NS + number, reason=text, **columns)


def spooled(edge: Emitter) -> int:
    return edge.accounts()["turn"].spooled


def emitted(edge: Emitter) -> int:
    return edge.accounts()["turn"].emitted


async def numbers(place: Place) -> list[int]:
    """Numbers of the turns in the log, in its order."""
    log = SqliteEventLog(place.path)
    messages = await log.read(TopicPartition(TURN.topic, 0), 0, max_bytes=1 << 30)
    await log.aclose()
    return [row["mono_ns"] for message in messages for row in make.plain(open_chunk(message)[2])]


async def audited(place: Place) -> Audit:
    log = SqliteEventLog(place.path)
    result = await audit(log)
    await log.aclose()
    return result


@pytest.mark.parametrize("away", ["refuses", "hangs"])
async def test_facts_wait_on_disk_and_arrive_in_order(place: Place, away: str) -> None:
    edge = place.emitter()
    edge.start()
    add(edge, 0, 5)
    wait_until(lambda: emitted(edge) == 5)
    place.away = away
    for first in range(5, 50, 5):
        add(edge, first, 5)
        wait_until(lambda first=first: spooled(edge) == first)  # type: ignore[misc]
    assert edge.accounts()["turn"] == Account(captured=50, emitted=5, spooled=45)
    place.away = None
    wait_until(lambda: emitted(edge) == 50)
    add(edge, 50)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=51, emitted=51)
    assert await numbers(place) == list(range(51))
    result = await audited(place)
    assert result.complete
    assert result.by_type["turn"].repeated_chunks == 0
    assert not place.files("*.*")  # nothing is left but the number of partitions


async def test_what_is_on_disk_at_the_end_is_sent_by_the_next_start(place: Place) -> None:
    place.away = "refuses"
    edge = place.emitter()
    edge.start()
    add(edge, 0, 10)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=10, spooled=10)
    assert len(place.files()) == 1
    place.away = None
    following = place.emitter()
    following.start()
    wait_until(lambda: not place.files())
    assert following.close(PATIENCE_S)["turn"] == Account()
    assert await numbers(place) == list(range(10))
    result = await audited(place)
    assert result.complete
    assert result.by_type["turn"].accounted_emitted == 10


@pytest.mark.parametrize("away", ["refuses", "hangs"])
async def test_the_end_does_not_wait_for_a_log_that_is_away(place: Place, away: str) -> None:
    edge = place.emitter()
    edge.start()
    add(edge, 0)
    wait_until(lambda: emitted(edge) == 1)
    place.away = away
    add(edge, 1, 10)
    assert edge.close(PATIENCE_S * 100)["turn"] == Account(captured=11, emitted=1, spooled=10)
    place.away = None
    following = place.emitter()
    following.start()
    wait_until(lambda: not place.files())
    following.close(PATIENCE_S)
    assert sorted(await numbers(place)) == list(range(11))
    assert (await audited(place)).complete


KILLED = """
import signal, sys, threading
from pathlib import Path
from tests.unit.eventlog.test_spool import Place, add, spooled, wait_until
place = Place(Path(sys.argv[1]))
place.away = "refuses"
edge = place.emitter()
edge.start()
add(edge, 0, 100)
wait_until(lambda: spooled(edge) == 100)
print(edge.source, flush=True)
threading.Event().wait()
"""


async def test_a_spool_left_by_a_killed_producer_keeps_its_names(place: Place, request: pytest.FixtureRequest) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - the test has nothing else to do
        [sys.executable, "-c", KILLED, str(place.path.parent)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=request.config.rootpath,
    ) as process:
        assert process.stdout is not None
        source = process.stdout.readline().strip()
        other = place.emitter()
        other.start()  # finds it locked, and leaves it alone
        add(other, 1_000)
        other.close(PATIENCE_S)
        assert len(place.files()) == 1
        process.send_signal(signal.SIGKILL)
    following = place.emitter()
    following.start()
    wait_until(lambda: not place.files())
    following.close(PATIENCE_S)
    assert await numbers(place) == [1_000, *range(100)]
    result = await audited(place)
    assert result.unfinished == (source,)
    assert result.by_type["turn"].missing_chunks == 0


def damage(path: Path, how: str) -> None:
    if how == "cut to nothing":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"not a database, not at all" * 10_000)


@pytest.mark.parametrize("how", ["cut to nothing", "cut", "overwritten"])
async def test_a_damaged_spool_is_moved_aside(place: Place, how: str, caplog: pytest.LogCaptureFixture) -> None:
    place.away = "refuses"
    edge = place.emitter()
    edge.start()
    for first in range(0, 400, 100):
        add(edge, first, 100, text="".join(map(str, range(first, first + 400))))
        wait_until(lambda first=first: spooled(edge) == first + 100)  # type: ignore[misc]
    edge.close(PATIENCE_S)
    (path,) = place.files()
    damage(path, how)
    place.away = None
    following = place.emitter()
    following.start()
    wait_until(lambda: following.spools_set_aside)
    add(following, 1_000)
    accounts = following.close(PATIENCE_S)
    assert accounts["turn"] == Account(captured=1, emitted=1)
    assert place.files() == []
    assert len(place.files("*.sqlite.damaged")) == 1
    assert "is damaged" in caplog.text
    assert (await numbers(place))[-1] == 1_000


async def test_damaged_spools_are_kept_up_to_a_number_and_a_size(place: Place) -> None:
    place.spools.mkdir()

    def leave(name: str, size: int) -> None:
        for ending in ("", "-wal"):
            (place.spools / f"{name}.sqlite.damaged{ending}").write_bytes(bytes(size // 2))

    def left() -> list[str]:
        return sorted({path.name.partition(".")[0] for path in place.spools.glob("*.damaged*")})

    folder = SpoolFolder(place.spools, 10_000)
    for number in range(DAMAGED_AT_MOST + 2):
        leave(f"{number:02}", 100)
    assert folder.delete_damaged() == 2
    assert left() == [f"{number:02}" for number in range(2, DAMAGED_AT_MOST + 2)]
    leave("99", 9_500)
    place.spools.joinpath("whole.sqlite").write_bytes(bytes(50_000))
    assert folder.delete_damaged() == 3
    assert left() == ["05", "06", "07", "08", "09", "99"]
    assert folder.delete_damaged() == 0
    leave("broken", 10)
    place.away = "refuses"
    edge = place.emitter(spool_max_bytes=9_900)
    edge.start()
    add(edge, 0, 10)
    wait_until(lambda: spooled(edge) == 10)
    edge.close(PATIENCE_S)
    damage(next(path for path in place.files() if path.stem != "whole"), "overwritten")
    following = place.emitter(spool_max_bytes=9_900)
    following.start()
    wait_until(lambda: following.spools_set_aside)
    following.close(PATIENCE_S)
    assert following.spools_deleted
    assert "05" not in left()


async def test_a_spool_damaged_while_in_use_is_accounted_for(place: Place) -> None:
    place.away = "refuses"
    edge = place.emitter()
    edge.start()
    add(edge, 0, 10)
    wait_until(lambda: spooled(edge) == 10)
    (path,) = place.files()
    damage(path, "overwritten")
    for wal in place.files("*-wal"):
        damage(wal, "overwritten")
    add(edge, 10, 10)
    place.away = None
    wait_until(lambda: not edge.accounts()["turn"].spooled)
    account = edge.close(PATIENCE_S)["turn"]
    assert account.captured == 20 == account.emitted + sum(account.shed.values())
    assert account.shed.keys() <= {"spool_corrupt"}  # what SQLite still had in memory may be saved
    found = await numbers(place)
    assert len(found) == account.emitted
    assert found == sorted(found)


async def test_a_chunk_changed_on_disk_is_left_out_and_counted(place: Place) -> None:
    place.away = "refuses"
    edge = place.emitter()
    edge.start()
    for first in range(3):
        add(edge, first)
        wait_until(lambda first=first: spooled(edge) == first + 1)  # type: ignore[misc]
    edge.close(PATIENCE_S)
    (path,) = place.files()
    log = SqliteEventLog(path)
    await log.call(lambda connection: connection.execute("UPDATE messages SET value = zeroblob(9) WHERE offset = 1"))
    await log.aclose()
    place.away = None
    following = place.emitter()
    following.start()
    wait_until(lambda: not place.files())
    following.close(PATIENCE_S)
    assert await numbers(place) == [0, 2]
    assert (await audited(place)).by_type["turn"].missing_chunks == 1


async def test_a_full_spool_sheds_by_its_reason_what_memory_cannot_hold(place: Place) -> None:
    place.away = "refuses"
    edge = place.emitter(spool_max_bytes=30_000, max_pending_rows=200, chunk_rows=10)
    edge.start()
    firsts = itertools.count(0, 10)

    def shed() -> bool:
        add(edge, next(firsts), 10)
        return "spool_full" in edge.accounts()["turn"].shed

    wait_until(shed)
    assert spooled(edge)
    place.away = None
    wait_until(lambda: not spooled(edge))
    account = edge.close(PATIENCE_S)["turn"]
    assert account.captured == next(firsts) == account.emitted + sum(account.shed.values())
    found = await numbers(place)
    assert found == sorted(found)
    assert len(found) == account.emitted
    assert (await audited(place)).by_type["turn"].missing_chunks == 0


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.unit.eventlog.test_spool import Place, add, wait_until
place = Place(Path(sys.argv[1]))
place.away = "refuses"
edge = place.emitter(max_pending_rows=300, chunk_rows=20)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))  # as a disk with so much room
edge.start()
numbers = iter(range(0, 1_000_000, 20))
def filled():
    add(edge, next(numbers), 20)
    return edge.accounts()["turn"].shed
wait_until(filled)
place.away = None
account = edge.accounts()["turn"]
print(account.spooled > 0, sorted(account.shed))
"""


def test_a_disk_that_takes_no_more(place: Place, request: pytest.FixtureRequest) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(place.path.parent)],
        capture_output=True,
        text=True,
        cwd=request.config.rootpath,
        check=False,
    )
    assert ran.stdout.startswith("True ["), ran.stderr
    assert "spool_f" in ran.stdout


async def test_a_folder_that_cannot_be_written_leaves_memory(place: Place) -> None:
    place.spools.write_text("in the way")
    place.away = "refuses"
    edge = place.emitter(max_pending_rows=100)
    edge.start()
    add(edge, 0)
    wait_until(lambda: edge.problem)
    firsts = itertools.count(1, 100)

    def shed() -> bool:
        add(edge, next(firsts), 100)
        return "spool_failed" in edge.accounts()["turn"].shed

    wait_until(shed)
    place.away = None
    wait_until(lambda: edge.problem is None)
    account = edge.close(PATIENCE_S)["turn"]
    assert account.emitted
    assert account.captured == account.emitted + sum(account.shed.values())


async def test_a_chunk_that_the_log_never_takes_stops_no_other(place: Place) -> None:
    place.away = "refuses big ones"
    edge = place.emitter(chunk_rows=1_000)
    add(edge, 0)
    edge.start()
    wait_until(lambda: emitted(edge) == 1)
    columns = {"leg": "client_edge", "method": "stun", "rtt_us": 1}
    edge.add(LEG, session_id=SESSION, region="eu", observed_ns=1, **columns)
    add(edge, 1, 1, text="".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(40_000)))
    accounts = edge.close(PATIENCE_S)
    assert accounts["turn"] == Account(captured=2, emitted=1, shed={"refused": 1})
    assert accounts["leg"] == Account(captured=1, emitted=1)


async def test_partitions_are_remembered_for_a_start_without_the_log(place: Place) -> None:
    await SqliteEventLog(place.path, partitions=3).partitions("any")
    edge = place.emitter(partitions=None)
    edge.start()
    add(edge, 0)
    edge.close(PATIENCE_S)
    place.away = "refuses"
    edge = place.emitter(partitions=None)
    edge.start()
    add(edge, 1)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=1, spooled=1)
    place.away = None
    edge = place.emitter(partitions=None)
    edge.start()
    wait_until(lambda: not place.files())
    edge.close(PATIENCE_S)
    assert (await audited(place)).by_type["turn"].rows == 2


async def test_chunks_made_for_more_partitions_than_there_are_find_one(place: Place) -> None:
    place.away = "refuses"
    edge = place.emitter(partitions=64)
    edge.start()
    add(edge, 0, 3)
    wait_until(lambda: spooled(edge) == 3)
    place.away = None
    wait_until(lambda: emitted(edge) == 3)
    assert edge.close(PATIENCE_S)["turn"] == Account(captured=3, emitted=3)
    assert await numbers(place) == [0, 1, 2]
