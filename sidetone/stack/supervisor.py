"""Runs the one-machine stack: starts its parts in order, restarts one that dies, ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Self

from sidetone.settings import Settings
from sidetone.stack.child import Child, StackError
from sidetone.stack.plan import Part, parts

_RESTARTS = 5
"""A part that died this often in one run stays down: it would not be cured by another start."""


@dataclass
class Stack:
    """The processes of the one-machine stack.

    Attributes:
        settings: what they all read.
        dashboard: whether the API and the dashboard run too.
        report: called with one line for each thing that happens.
        deaths: what died unasked, as `name (exit status N)`.

    """

    settings: Settings
    dashboard: bool = True
    report: Callable[[str], None] = lambda _line: None
    deaths: list[str] = field(default_factory=list)
    _children: dict[str, Child] = field(default_factory=dict)
    _watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def log_dir(self) -> Path:
        """Folder of the parts' log files."""
        return self.settings.data_dir / "logs"

    async def __aenter__(self) -> Self:
        """Make the folders; `start` starts the parts."""
        self.settings.make_data_dir()
        self.log_dir.mkdir(exist_ok=True)
        return self

    async def start(self, *, up_to: int = 1_000) -> None:
        """Start the parts whose `starts` is at most `up_to` and that do not run yet, in order.

        Raises:
            StackError: one did not start. The others go on until the stack is left.

        """
        plan = sorted(parts(self.settings, dashboard=self.dashboard), key=lambda part: part.starts)
        wanted = [part for part in plan if part.starts <= up_to and part.name not in self._children]
        environment = self.settings.as_environment()
        for _, group in groupby(wanted, key=lambda part: part.starts):
            try:
                async with asyncio.TaskGroup() as starting:
                    for part in group:
                        self._children[part.name] = Child(part, environment, self.log_dir / f"{part.name}.log")
                        starting.create_task(self._start(part))
            except* StackError as errors:
                raise StackError("\n".join(str(error) for error in errors.exceptions)) from None

    async def __aexit__(self, *_: object) -> None:
        """End all parts."""
        await self.stop()

    async def stop(self, *, above: int = -1, up_to: int = 1_000) -> None:
        """End the parts whose `stops` lies in `(above, up_to]`, in order, each within its grace."""
        chosen = sorted(
            (child for child in self._children.values() if above < child.part.stops <= up_to),
            key=lambda child: child.part.stops,
        )
        for _, group in groupby(chosen, key=lambda child: child.part.stops):
            await asyncio.gather(*(self._stop(child) for child in list(group)))

    async def _start(self, part: Part) -> None:
        await self._children[part.name].start()
        self.report(f"{part.name} is ready")
        self._watchers[part.name] = asyncio.create_task(self._watch(self._children[part.name]))

    async def _stop(self, child: Child) -> None:
        del self._children[child.part.name]
        watcher = self._watchers.pop(child.part.name, None)
        if watcher is not None:
            watcher.cancel()
        if not await child.stop():
            self.deaths.append(f"{child.part.name} (did not end cleanly)")
            self.report(f"{child.part.name} did not end cleanly; see {child.log_file}")

    async def _watch(self, child: Child) -> None:
        for attempt in range(_RESTARTS):
            status = await child.wait()
            self.deaths.append(f"{child.part.name} (exit status {status})")
            self.report(f"{child.part.name} died (exit status {status}); starting it again. Its log: {child.log_file}")
            await asyncio.sleep(0.2 * 2**attempt)
            try:
                await child.start()
                self.report(f"{child.part.name} is ready")
            except StackError as error:
                self.report(str(error))
        self.report(f"{child.part.name} died {_RESTARTS} times and stays down; see {child.log_file}")
