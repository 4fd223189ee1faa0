"""One process per data directory: the lock that says who, and the checks before the engine starts."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sidetone.store.errors import StoreStartError

LOCK_NAME = ".sidetone-store.lock"


class DataDirLock:
    """Holds `data_dir` for this process until `release` (or the process ends, however it ends).

    Raises:
        StoreStartError: the directory cannot be made or written, or another process holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / LOCK_NAME
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreStartError(
                f"The store cannot write to its data directory {data_dir}: {error.strerror}. "
                "Give a directory that this user may write, with --data-dir."
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreStartError(
                f"The data directory {data_dir} is in use by another store (process {holder}). "
                "Connect to that one, stop it, or give another directory with --data-dir."
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the directory go. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._fd)
