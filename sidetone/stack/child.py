"""One supervised process: started in a session of its own, known to be ready, ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from pathlib import Path

from sidetone.process import LIFELINE_ENV
from sidetone.stack.plan import Part

_TAIL_LINES = 12


class StackError(Exception):
    """A part of the stack did not start or did not stay. The message quotes its last words."""


class Child:
    """A process of the stack.

    Its standard input is a pipe that this process holds: when this process dies, however it does, the child reads
    the end of it and ends as on SIGTERM.
    """

    def __init__(self, part: Part, environment: dict[str, str], log_file: Path) -> None:
        self.part = part
        self.log_file = log_file
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False

    async def start(self, ready_timeout_s: float = 60.0) -> None:
        """Start the process and wait until it says that it is ready.

        Raises:
            StackError: it ended first, or was not ready in time.

        """
        self._was_ready = False
        with (
            tempfile.TemporaryDirectory(prefix="sidetone-") as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        ):
            path = str(Path(folder) / "notify")
            notify.bind(path)
            notify.setblocking(False)
            await self._spawn(path)
            ready = asyncio.create_task(_ready(notify))
            ended = asyncio.create_task(self.wait())
            try:
                await asyncio.wait((ready, ended), timeout=ready_timeout_s, return_when=asyncio.FIRST_COMPLETED)
                is_ready = ready.done()
            finally:
                for task in (ready, ended):
                    task.cancel()
                await asyncio.gather(ready, ended, return_exceptions=True)
        if is_ready:
            self._was_ready = True
            return
        if self._process is not None and self._process.returncode is None:
            await self.stop(grace_s=0.0)
            raise StackError(f"{self.part.name} was not ready within {ready_timeout_s:.0f} s. {self._last_words()}")
        raise StackError(f"{self.part.name} ended before it was ready. {self._last_words()}")

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""
        assert self._process is not None, "start() comes first"  # noqa: S101 - our own order of calls
        return await self._process.wait()

    async def stop(self, grace_s: float | None = None) -> bool:
        """End the process: SIGTERM, then SIGKILL after its grace. Return whether it went by itself, cleanly.

        Of one that never was ready that is not asked: it may not have got to where it handles SIGTERM, and what kept it
        from being ready was told by `start`.
        """
        process = self._process
        if process is None:
            return True
        grace = self.part.grace_s if grace_s is None else grace_s
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return process.returncode == 0 or not self._was_ready

    async def _spawn(self, notify_path: str) -> None:
        environment = {**os.environ, **self._environment, LIFELINE_ENV: "1", "NOTIFY_SOCKET": notify_path}
        nice = self.part.nice
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sidetone",
                *self.part.args,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                # Of its own session, so that Ctrl-C on the terminal reaches the supervisor alone, which ends
                # the parts in order.
                start_new_session=True,
                preexec_fn=(lambda: os.nice(nice) and None) if nice else None,
            )

    def _last_words(self) -> str:
        with self.log_file.open(errors="replace") as log:
            tail = "".join(f"\n    {line.rstrip()}" for line in deque(log, maxlen=_TAIL_LINES))
        return f"Its log {self.log_file} ends with:{tail}" if tail else f"Its log {self.log_file} is empty."


async def _ready(notify: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in (await loop.sock_recv(notify, 4096)).split(b"\n"):
        pass
