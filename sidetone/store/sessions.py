"""HTTP sessions: what a client sets in one request and sees in the next.

Most sessions never hold anything (clickhouse_connect names one per client by default), so a session gets a connection
of its own only with its first `SET`, `USE` or temporary table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sidetone.store.engine import Connection, identifier, quote
from sidetone.store.errors import StoreError

_MAX_SESSIONS = 10_000
_MAX_CONNECTIONS = 256


@dataclass(slots=True)
class Session:
    """One session; used by one request at a time."""

    expires_s: float
    connection: Connection | None = None
    busy: bool = False


class Sessions:
    """All sessions. Every method is called from the event loop's thread only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def acquire(self, session_id: str, timeout_s: float, *, must_exist: bool) -> Session:
        """Lock the session for one request, making it if need be.

        Raises:
            StoreError: 372 (must exist and does not), 373 (another request is in it), 202 (too many).
        """
        now = self._clock()
        session = self._sessions.get(session_id)
        if session is not None and session.busy:
            raise StoreError(373, f"Session {session_id} is locked by a concurrent client.")
        if session is not None and session.expires_s < now:
            # It may hold a connection; the sweep closes it.
            self._sessions[f"{session_id}\0{now}"] = self._sessions.pop(session_id)
            session = None
        if session is None:
            if must_exist:
                raise StoreError(372, f"Session {session_id} not found.")
            if len(self._sessions) >= _MAX_SESSIONS:
                raise StoreError(202, f"Too many HTTP sessions (limit {_MAX_SESSIONS}): close some or let them expire.")
            session = self._sessions[session_id] = Session(now + timeout_s)
        session.busy, session.expires_s = True, now + timeout_s
        return session

    def release(self, session: Session, timeout_s: float) -> None:
        """End the request; the session lives on for `timeout_s`."""
        session.busy, session.expires_s = False, self._clock() + timeout_s

    def may_hold_connection(self) -> bool:
        """Whether one more session may keep a connection."""
        return sum(s.connection is not None for s in self._sessions.values()) < _MAX_CONNECTIONS

    def forget(self, session_id: str) -> Connection | None:
        """Drop a session now; gives its connection to close."""
        session = self._sessions.pop(session_id, None)
        return session.connection if session else None

    def sweep(self) -> list[Connection]:
        """Drop what expired; gives the connections to close."""
        now = self._clock()
        dead = [key for key, session in self._sessions.items() if not session.busy and session.expires_s < now]
        return [connection for key in dead if (connection := self.forget(key)) is not None]

    def drain(self) -> list[Connection]:
        """Drop all; gives the connections to close."""
        return [connection for key in list(self._sessions) if (connection := self.forget(key)) is not None]


class Overlay:
    """Settings and database of one request laid over a session's connection, and taken off again."""

    def __init__(self, connection: Connection, settings: Mapping[str, str], database: str | None) -> None:
        self._connection = connection
        self._database = connection.value("SELECT currentDatabase()") if database else None
        self._restore = ""
        if settings:
            names = ", ".join(quote(name) for name in settings)
            query = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})"  # noqa: S608 - quoted
            changed = connection.run(query.encode(), "TSVRaw").data.decode()
            kept = dict(line.split("\t", 1) for line in changed.splitlines())
            self._restore = "SET " + ", ".join(
                f"{name} = {quote(kept[name]) if name in kept else 'DEFAULT'}" for name in settings
            )
            connection.set(settings)
        if database:
            connection.use(database)

    def remove(self, *, keep_database: bool) -> None:
        """Back to what the session had; after `USE`, its database stays."""
        if self._restore:
            self._connection.run(self._restore.encode())
        if self._database and not keep_database:
            self._connection.run(f"USE {identifier(self._database)}".encode())
