"""Facts from anywhere in a process to the log: bounded, off the caller's path, every row accounted for."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from eventlog import columns as _columns
from eventlog.backlog import Account, Backlog
from eventlog.ids import RANDOM_BYTES, uuid7
from eventlog.link import Link
from eventlog.port import EventLog
from eventlog.schema import FactType
from eventlog.sender import Producer, Sender
from eventlog.spool import SpoolFolder
from eventlog.spooling import Spooling

_log = logging.getLogger(__name__)

_SESSION_BYTES: Final = 16
_JOIN_S: Final = 1.0


class Emitter:
    """Gathers facts and writes them to the log as sorted chunks, from a thread of its own.

    Adding is thread-safe, costs about a microsecond and never waits: what exceeds `max_pending_rows` is shed, oldest
    first, and counted by reason. While the log is away or slow its chunks wait on disk, if there is a `spool_dir`, and
    go to the log in order when it returns. What is still on disk at the end is sent by the next emitter with the same
    `spool_dir`, even if this process was killed. Every 10 s, and at the end, the accounts go to the log as `emitter`
    facts.

    Reasons of shedding: `backlog_full`, `spool_full` and `spool_failed` (the memory is full because the disk took no
    more), `spool_corrupt` (lost on disk), `invalid` (a value that the schema does not take), `too_large` (one row above
    the size of a chunk), `refused` (a chunk that the log never takes), `unacknowledged` (given to the log, which did
    not say in time whether it has it), `close_timeout`, `closed` (added after `close`), `not_started`, `failed`.

    Args:
        open_log: makes the log; called in the emitter's thread, again whenever the log failed for good.
        role: what the process is (`edge`, `transceiver` …).
        region: the process's own, for `emitter` facts.
        host_id: names the clock; on every fact.
        flush_s: seconds that a fact waits at most before it is written.
        max_pending_rows: bound of the memory used, in rows.
        chunk_rows: rows per chunk at most.
        spool_dir: folder for this role's chunks while the log is away; made when it is needed. None keeps them in
            memory only.
        spool_max_bytes: of chunks on disk.
        partitions: of the log's topics, to go by at a first start without the log; None waits for it, in memory.

    """

    def __init__(
        self,
        open_log: Callable[[], EventLog],
        *,
        role: str,
        region: str,
        host_id: str,
        flush_s: float = 0.25,
        max_pending_rows: int = 1_000_000,
        chunk_rows: int = 65_536,
        spool_dir: Path | None = None,
        spool_max_bytes: int = 1 << 30,
        partitions: int | None = None,
    ) -> None:
        identity = uuid7(time.time_ns(), os.urandom(RANDOM_BYTES))
        self.source = f"{role}/{region}/{host_id}/{identity}"
        self._backlog = Backlog(max_pending_rows)
        self._link = Link(open_log)
        self._spooling = None if spool_dir is None else Spooling(SpoolFolder(spool_dir, spool_max_bytes), self._backlog)
        self._sender = Sender(
            self._link,
            self._backlog,
            self._spooling,
            Producer(self.source, role, region, host_id),
            flush_s=flush_s,
            chunk_rows=min(chunk_rows, max_pending_rows),
            partitions=partitions,
        )
        self._shapes: set[tuple[str, tuple[str, ...]]] = set()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def problem(self) -> str | None:
        """Why facts are not reaching the log at present, for people; None while they are."""
        return self._link.problem

    @property
    def spools_set_aside(self) -> int:
        """Damaged spools that were moved out of the way since the start."""
        return self._spooling.set_aside if self._spooling is not None else 0

    @property
    def spools_deleted(self) -> int:
        """Damaged spools that were deleted since the start, because there were too many of them, or too large ones."""
        return self._spooling.deleted if self._spooling is not None else 0

    def add(self, fact: FactType, /, *, session_id: bytes, region: str, observed_ns: int, **columns: object) -> None:
        """Add one fact. Nullable columns may be left out and are NULL then; map columns take a mapping.

        Raises:
            ValueError: a column name that the type does not have, or a missing one, or a session that is not 16 bytes:
                errors of the program, not of the data. Values are checked later, and counted as `invalid`.

        """
        shape = (fact.name, tuple(columns))
        if shape not in self._shapes:
            _columns.check_names(fact, ["session_id", "region", "observed_ns", *columns])
            self._shapes.add(shape)
        if len(session_id) != _SESSION_BYTES:
            raise ValueError(f"a session_id has {_SESSION_BYTES} bytes, not {len(session_id)}")
        self._backlog.add_row(fact, (session_id, region, observed_ns, columns))

    def add_columns(self, fact: FactType, columns: Mapping[str, Any], rows: int) -> None:
        """Add many facts at once, column by column, in the order of their capture.

        Each column is a sequence, an Arrow array or a numpy array (copied, so it may be reused; masked arrays give
        NULL) of `rows` values, or one plain value that stands for all rows. Sessions may be numpy `S16`, `V16` or
        uint8[rows, 16]. Times are int64 nanoseconds. `host_id` is filled in.

        Raises:
            ValueError: an unknown or missing column, or one of another length.

        """
        if rows:
            self._backlog.add_columns(fact, _columns.copied(fact, columns, rows), rows)
        else:
            _columns.check_names(fact, columns)

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Account for facts that the caller observed but had to give up before it could add them."""
        self._backlog.shed(fact, reason, rows)

    def start(self) -> None:
        """Start the thread. Facts added before wait for it.

        Takes a second or two if it is the first in this process to make pyarrow import pandas (see `eventlog.lean`).
        """
        with self._lock:
            if self._thread is not None or self._closed:
                raise RuntimeError("an emitter is started once; make another one")
            pa.array([0])  # loads what it needs now, not when facts are waiting
            self._thread = threading.Thread(target=self._run, name="emitter", daemon=True)
            self._thread.start()

    def accounts(self) -> dict[str, Account]:
        """Return what became of the rows so far, per fact type."""
        return self._backlog.accounts()

    def close(self, timeout_s: float = 5.0) -> dict[str, Account]:
        """Write everything that is pending, then the final accounts, and stop; takes `timeout_s` and a second at most.

        Returns the accounts, which add up: for each fact type `captured == emitted + spooled + sum(shed)`; what is
        `spooled` then is for the next start.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                if self._thread is None:
                    self._backlog.abandon("not_started", "closed")
                else:
                    self._sender.close(timeout_s)
                    self._thread.join(timeout_s + _JOIN_S)
                    if self._thread.is_alive():
                        _log.error("emitter %s gave up: the log does not answer (%s)", self.source, self.problem)
                        self._backlog.abandon("close_timeout", "closed")
        return self.accounts()

    def _run(self) -> None:
        reason = "failed"
        try:
            asyncio.run(self._sender.run())
            reason = "closed"
        except Exception:  # noqa: BLE001 - whatever it is must not reach the process: it is logged, and the accounts show it
            _log.exception("emitter %s failed; its facts are shed from now on", self.source)
        self._backlog.abandon(reason, reason)
