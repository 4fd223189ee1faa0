"""A pipe that the engine writes from a thread and the event loop reads: how a result streams in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import Self

_PIPE_BYTES = 1 << 20
# Shared by all pipes, for a read is copied out before anyone else runs: os.read would allocate its maximum every time.
_room = memoryview(bytearray(_PIPE_BYTES))


class Pipe:
    """Reading end for the event loop, writing end for whoever `hand_over` gives it to."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        # Larger than the default 64 KiB saves switches; a full per-user quota only makes it slower.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def hand_over(self) -> int:
        """The writing end, which the taker closes."""
        writing, self._writing = self._writing, -1
        return writing

    async def read(self) -> bytes:
        """The next bytes; empty when every writer has closed."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(BlockingIOError):
                return bytes(_room[: os.readv(self._reading, [_room])])
            readable: asyncio.Future[None] = loop.create_future()
            loop.add_reader(self._reading, _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reading)
        if self._writing >= 0:
            os.close(self._writing)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
