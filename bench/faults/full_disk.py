"""A producer whose spool is on a file system that is really full, in a process of its own.

The file system is a small tmpfs that only this process sees (a mount namespace of its own; who is not root gets a user
namespace with it), so that nothing outlives it and nobody else's disk fills up. Where the kernel grants neither, writes
beyond a file size fail instead (RLIMIT_FSIZE), which is what the round then says.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pyarrow as pa

from bench.faults.producers import hand_over, make_emitter, wait
from bench.faults.victim import FORKS, silence

SIZE_BYTES: Final = 1_500_000
"""Room for the spool's file, its journal and its index, and for some dozens of portions."""

_CLONE_NEWNS: Final = 0x0002_0000  # sched.h
_CLONE_NEWUSER: Final = 0x1000_0000
_MS_REC: Final = 0x4000  # sys/mount.h
_MS_PRIVATE: Final = 0x4_0000

Portion = list[tuple[str, pa.RecordBatch]]


@dataclass(frozen=True)
class Result:
    """What the producer says at its end: rows that it shed, by type and by reason, and how its disk was full."""

    shed: dict[str, int]
    reasons: dict[str, int]
    how: str


class Producer:
    """A producer on such a disk, started at once. It has reached the log when this returns."""

    def __init__(self, bootstrap: str, folder: Path, patience_s: float) -> None:
        self._talks, its = FORKS.Pipe()
        self._process = FORKS.Process(target=_produce, args=(bootstrap, folder, patience_s, its), daemon=True)
        self._process.start()
        its.close()
        self._talks.recv()

    def emit(self, portion: Portion) -> dict[str, int]:
        """Hand facts over; return the rows shed so far, by reason."""
        self._talks.send(portion)
        reasons: dict[str, int] = self._talks.recv()
        return reasons

    def finish(self) -> Result:
        """Have it bring everything into the log that it still has, and end."""
        self._talks.send([])
        result: Result = self._talks.recv()
        self._process.join()
        return result

    def kill(self) -> None:
        """SIGKILL; nothing if it has ended."""
        self._process.kill()
        self._process.join()


def _produce(bootstrap: str, folder: Path, patience_s: float, talks: Connection) -> None:
    silence()
    folder.mkdir()
    how = _limit(folder)
    # Little memory: what does not fit goes to disk at once.
    emitter = make_emitter(bootstrap, folder, max_pending_rows=400)
    emitter.start()
    wait(lambda: emitter.problem is None, "the log is not there")
    talks.send(how)

    def reasons() -> dict[str, int]:
        found: dict[str, int] = {}
        for account in emitter.accounts().values():
            for reason, rows in account.shed.items():
                found[reason] = found.get(reason, 0) + rows
        return found

    while portion := talks.recv():
        hand_over(emitter, portion)
        talks.send(reasons())
    wait(lambda: not any(account.spooled for account in emitter.accounts().values()), "the spool was not drained")
    accounts = emitter.close(patience_s)
    talks.send(Result({name: sum(account.shed.values()) for name, account in accounts.items()}, reasons(), how))


def _limit(folder: Path) -> str:
    """Make the folder's disk small; return how that was done."""
    for flags, how in (
        (_CLONE_NEWNS, "tmpfs in a mount namespace"),
        (_CLONE_NEWNS | _CLONE_NEWUSER, "tmpfs in a user and mount namespace"),
    ):
        if _mounted(folder, flags):
            return how
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write shall fail, not the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE_BYTES // 2, SIZE_BYTES // 2))
    return "RLIMIT_FSIZE"


def _mounted(folder: Path, flags: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(flags):
        return False
    if flags & _CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={SIZE_BYTES},mode=700".encode()) == 0)
