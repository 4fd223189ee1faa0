"""The sender's connection to the log: opened, dropped after an error, opened again; says what is wrong meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from eventlog.port import EventLog, EventLogError, LogUnavailableError
from eventlog.schema import EMITTER

_logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0

_T = TypeVar("_T")


class Link:
    """Belongs to one asyncio loop; `problem` is for other threads too.

    Attributes:
        problem: why the log does not take chunks at present, for people; None while it does.
        partitions: of each topic, once the log has answered.

    """

    def __init__(self, open_log: Callable[[], EventLog]) -> None:
        self.problem: str | None = None
        self.partitions: int | None = None
        self._open_log = open_log
        self._log: EventLog | None = None

    async def ready(self) -> EventLog:
        """Return the log; open it first, for as long as that takes."""
        pause_s = FIRST_PAUSE_S
        while self._log is None:
            log = None
            try:
                log = self._open_log()
                self.partitions = await log.partitions(EMITTER.topic)
                self._log = log
            except Exception as error:  # noqa: BLE001 - a log may raise anything; it is reported and tried again
                self._report(error)
                await _close(log)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return self._log

    async def failed(self, error: Exception) -> None:
        """Take note of an error of an append. A log that is more than unavailable is opened anew."""
        self._report(error)
        if not isinstance(error, LogUnavailableError):
            await self.drop()

    def waiting(self, seconds: float) -> None:
        """Take note of an append that has not been answered for a while."""
        if self.problem is None:
            self._report(LogUnavailableError(f"the log has not answered for {seconds:.0f} s"))

    def recovered(self) -> None:
        """Take note of an append that worked."""
        if self.problem is not None:
            _logger.warning("facts reach the log again")
        self.problem = None

    async def drop(self) -> None:
        """Close the log."""
        log, self._log = self._log, None
        await _close(log)

    def _report(self, error: Exception) -> None:
        if self.problem is None:
            known = isinstance(error, EventLogError)
            _logger.warning("facts wait for the log: %s", error, exc_info=None if known else error)
        self.problem = str(error)


async def first(wanted: Awaitable[_T], other: Awaitable[object]) -> tuple[bool, _T | None]:
    """Await two things until one is done: `(True, result)` of the wanted one, or `(False, None)`; cancel the rest."""
    task, rival = asyncio.ensure_future(wanted), asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, rival}, return_when=asyncio.FIRST_COMPLETED)
        return (True, task.result()) if task.done() else (False, None)
    finally:
        task.cancel()
        rival.cancel()


async def _close(log: EventLog | None) -> None:
    if log is not None:
        try:
            await first(log.aclose(), asyncio.sleep(LONGEST_PAUSE_S))
        except Exception as error:  # noqa: BLE001 - there is nothing left to do with it but to say so
            _logger.warning("the log could not be closed: %s", error)
