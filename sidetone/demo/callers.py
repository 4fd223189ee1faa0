"""The fleet of synthetic callers as a child process, so that nothing of the demo's own delays their voices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sidetone.process import LIFELINE_ENV

_STOP_S = 4.0


@dataclass(frozen=True, slots=True)
class Calls:
    """What to call, as `sidetone call` takes it.

    Attributes:
        url: base URL of the signalling server.
        routes: pairs of region and network profile; calls take them in turn.
        calls: how many at once.
        seconds: length of each call; None until stopped.
        seed: of everything random.
        speech: recordings to say in place of the shipped questions.

    """

    url: str
    routes: Sequence[tuple[str, str]]
    calls: int
    seconds: float | None
    seed: int
    speech: Sequence[Path] = ()

    def arguments(self) -> list[str]:
        """Return them as arguments of the `sidetone` command."""
        arguments = ["call", "--json", "--no-measured", "--url", self.url]
        arguments += ["--calls", str(self.calls), "--seed", str(self.seed)]
        arguments += ["--seconds", "0" if self.seconds is None else str(self.seconds)]
        for region, network in self.routes:
            arguments += ["--region", region, "--network", network]
        for path in self.speech:
            arguments += ["--speech", str(path)]
        return arguments


class CallersError(Exception):
    """The callers' process failed as a whole."""


class Callers:
    """The running fleet. Each line of its progress goes to `report`."""

    def __init__(self, calls: Calls, environment: dict[str, str], report: Callable[[str], None]) -> None:
        self._calls = calls
        self._environment = environment
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._said: asyncio.Task[str] | None = None
        self._progress: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start calling."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sidetone",
            *self._calls.arguments(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment, LIFELINE_ENV: "1"},
            start_new_session=True,
        )
        self._said = asyncio.create_task(self._read_report())
        self._progress = asyncio.create_task(self._pass_on_progress())
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the calls if they have not ended."""
        await self.hang_up()

    async def ended(self) -> dict[str, Any]:
        """Wait for the end of all calls and return the fleet's report.

        Raises:
            CallersError: there is no report.

        """
        assert self._process is not None and self._said is not None  # noqa: S101, PT018 - after __aenter__
        text = await asyncio.shield(self._said)
        status = await self._process.wait()
        try:
            report: dict[str, Any] = json.loads(text)
        except ValueError:
            raise CallersError(f"the callers ended with exit status {status} and without a report") from None
        return report

    async def hang_up(self) -> None:
        """End all calls now."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _read_report(self) -> str:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018
        return (await self._process.stdout.read()).decode()

    async def _pass_on_progress(self) -> None:
        assert self._process is not None and self._process.stderr is not None  # noqa: S101, PT018
        async for line in self._process.stderr:
            self._report(line.decode(errors="replace").rstrip())
