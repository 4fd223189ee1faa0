"""Connections to the store, lent to one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver.client import Client

from analytics.errors import StoreUnavailableError
from analytics.store import connect

_IDLE_CLIENTS: Final = 8
"""Connections kept for the next question; more are closed after use."""


class Pool:
    """Clients of one store, made when needed and kept for the next question.

    Args:
        host: of the store's HTTP interface.
        port: likewise.
        user: who may read.
        password: of that user.

    """

    def __init__(self, host: str, port: int, user: str = "default", password: str = "") -> None:
        self._store = (host, port, user, password)
        self._lock = threading.Lock()
        self._idle: list[Client] = []

    @contextmanager
    def one(self) -> Iterator[Client]:
        """Lend a client; one that failed is not used again."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or connect(*self._store)
        try:
            yield client
        except StoreUnavailableError:
            client.close()
            raise
        except BaseException:
            self._give_back(client)
            raise
        self._give_back(client)

    def _give_back(self, client: Client) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_CLIENTS:
                self._idle.append(client)
                return
        client.close()
