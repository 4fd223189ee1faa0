"""The SQLite log against a plain file: megabytes per second to append and to read.

`python -m bench.sqlite_log --json`. Appending is compared with writing the same chunks to a file with an fsync after
each append; as SQLite's WAL mode does without that fsync (it costs the newest appends if the *machine* dies), a second
baseline writes without it. Reading is a group's fetch, compared with reading the file.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Work, arguments, cpu_s, report, rounds
from eventlog import Record, SqliteEventLog, TopicPartition

WHERE = TopicPartition("sidetone.packets", 0)
HEADERS = {"ce_id": "packet-0", "ce_source": "bench", "content-type": "application/vnd.apache.arrow.stream"}
FETCH_BYTES = 16 << 20
MEGA = 1e6


def sqlite_appends(folder: Path, chunks: list[bytes], per_append: int) -> Work:
    """Append chunks, several per call, to a new log."""

    async def run() -> Work:
        log = SqliteEventLog(folder / f"{time.monotonic_ns()}.sqlite")
        await log.bounds(WHERE)
        wall, cpu = time.perf_counter(), cpu_s()
        for start in range(0, len(chunks), per_append):
            await log.append([Record(WHERE, chunk, HEADERS) for chunk in chunks[start : start + per_append]])
        work = Work(sum(map(len, chunks)) / MEGA, wall_s=time.perf_counter() - wall, cpu_s=cpu_s() - cpu)
        await log.aclose()
        return work

    work = asyncio.run(run())
    _empty(folder)
    return work


def file_appends(folder: Path, chunks: list[bytes], per_append: int, *, sync: bool) -> Work:
    """Write the same to a new file."""
    path = folder / "plain"
    with path.open("wb", buffering=0) as file:
        wall, cpu = time.perf_counter(), cpu_s()
        for start in range(0, len(chunks), per_append):
            file.write(b"".join(chunks[start : start + per_append]))
            if sync:
                os.fsync(file.fileno())
        work = Work(sum(map(len, chunks)) / MEGA, wall_s=time.perf_counter() - wall, cpu_s=cpu_s() - cpu)
    path.unlink()
    return work


def sqlite_reads(path: Path) -> Work:
    """Fetch the whole log as a new group."""

    async def run() -> Work:
        log = SqliteEventLog(path)
        done = 0
        async with log.subscribe(f"group {time.monotonic_ns()}", [WHERE.topic]) as member:
            wall, cpu = time.perf_counter(), cpu_s()
            while messages := await member.fetch(max_bytes=FETCH_BYTES, timeout_s=0):
                done += sum(len(message.value) for message in messages)
            work = Work(done / MEGA, wall_s=time.perf_counter() - wall, cpu_s=cpu_s() - cpu)
        await log.aclose()
        return work

    return asyncio.run(run())


def file_reads(path: Path) -> Work:
    """Read a plain file in pieces of the same size."""
    done = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(FETCH_BYTES):
            done += len(piece)
    return Work(done / MEGA)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=int, default=48, help="written and read per round (default 48)")
    parser.add_argument("--chunk-bytes", type=int, default=400_000, help="bytes per chunk (default 400000)")
    parser.add_argument("--per-append", type=int, default=1, help="chunks per append (default 1)")
    options = parser.parse_args()
    count = max(1, options.megabytes * 1_000_000 // options.chunk_bytes)
    chunks = [os.urandom(options.chunk_bytes) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="sidetone-bench-") as name:
        folder, kept = Path(name) / "written", Path(name) / "kept"
        folder.mkdir()
        kept.mkdir()
        (kept / "plain").write_bytes(b"".join(chunks))
        asyncio.run(_fill(kept / "log.sqlite", chunks))
        contenders: dict[str, Callable[[], Work]] = {
            "append": lambda: sqlite_appends(folder, chunks, options.per_append),
            "file_fsync": lambda: file_appends(folder, chunks, options.per_append, sync=True),
            "file": lambda: file_appends(folder, chunks, options.per_append, sync=False),
            "read": lambda: sqlite_reads(kept / "log.sqlite"),
            "file_read": lambda: file_reads(kept / "plain"),
        }
        medians = rounds(contenders, options.rounds)
    rates = {name: median.per_s for name, median in medians.items()}
    report(
        {
            "chunk_bytes": options.chunk_bytes,
            "append_mb_per_second": rates["append"],
            "file_fsync_mb_per_second": rates["file_fsync"],
            "file_mb_per_second": rates["file"],
            "append_ratio_to_fsync": rates["append"] / rates["file_fsync"],
            "append_ratio_to_file": rates["append"] / rates["file"],
            "read_mb_per_second": rates["read"],
            "file_read_mb_per_second": rates["file_read"],
            "read_ratio": rates["read"] / rates["file_read"],
            "append_mb_per_cpu_second": medians["append"].per_cpu_s,
            "read_mb_per_cpu_second": medians["read"].per_cpu_s,
        },
        options.json,
    )


async def _fill(path: Path, chunks: list[bytes]) -> None:
    log = SqliteEventLog(path)
    for chunk in chunks:
        await log.append([Record(WHERE, chunk, HEADERS)])
    await log.aclose()


if __name__ == "__main__":
    main()
