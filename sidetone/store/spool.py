"""Bytes on their way: in memory while few, in an anonymous file when many, and always readable by the engine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Self

_IN_MEMORY = 1 << 20
_MEMFD_BYTES = 64 << 20


class Spool:
    """An anonymous byte store that grows from a buffer to a memory file to an unlinked file in `directory`.

    Not thread-safe. Bounded by its callers.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._buffer: bytearray | None = bytearray()
        self._fd = -1
        self._on_disk = False
        self.size = 0

    @property
    def blocking(self) -> bool:
        """Whether a write may wait for a disk."""
        return self._on_disk or self.size >= _MEMFD_BYTES

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self.size += len(data)
        if self._buffer is not None:
            self._buffer += data
            if self.size > _IN_MEMORY:
                self._spill()
            return
        if not self._on_disk and self.size > _MEMFD_BYTES:
            self._to_disk()
        _write_all(self._fd, data)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        if self._buffer is not None:
            return bytes(self._buffer[offset : offset + size])
        return os.pread(self._fd, size, offset)

    def descriptor(self) -> int:
        """A file descriptor that holds everything written so far; valid until `close`."""
        if self._buffer is not None:
            self._spill()
        return self._fd

    def close(self) -> None:
        """Give the memory or the file back."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._buffer = -1, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spill(self) -> None:
        content, self._buffer = self._buffer or bytearray(), None
        self._fd = _memory_file(self._directory)
        _write_all(self._fd, content)

    def _to_disk(self) -> None:
        with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
            disk = os.dup(file.fileno())
        offset = 0
        while chunk := os.pread(self._fd, _IN_MEMORY, offset):
            _write_all(disk, chunk)
            offset += len(chunk)
        os.close(self._fd)
        self._fd, self._on_disk = disk, True


def _memory_file(directory: Path) -> int:
    """Linux has memory files; elsewhere an unlinked file does."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sidetone-store")
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())


def _write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
