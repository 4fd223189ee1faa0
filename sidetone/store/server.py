"""The store as a server: checks, socket, event loop, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop

from sidetone.store.app import StoreApp
from sidetone.store.engine import Engine
from sidetone.store.errors import StoreStartError
from sidetone.store.lock import DataDirLock

log = logging.getLogger(__name__)

DEFAULT_PORT = 8123
# Together under the 5 s in which everything of Sidetone ends: what runs may finish, then it is stopped and its clients
# are told, then those that do not listen are cut off, then the engine closes.
_FINISH_S = 2.0
_CUT_OFF_S = 3
_STOP_S = 0.5
_MAX_URL_BYTES = 1 << 20  # ClickHouse's http_max_uri_size
_MAX_CONNECTIONS = 1024
_KEEP_ALIVE_S = 120


class StoreServer:
    """ClickHouse's HTTP interface over the engine in `data_dir`. One per process: so chDB demands.

    Args:
        data_dir: made if missing; one process at a time.
        host: a loopback address or `localhost`.
        port: 0 takes a free one.

    Raises:
        StoreStartError: not loopback, the port is busy, or the directory cannot be written, is in use or damaged.
    """

    def __init__(self, data_dir: str | Path, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        directory = Path(data_dir).resolve()
        self._socket = _listen(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        with contextlib.ExitStack() as undo:
            undo.callback(self._socket.close)
            self._lock = DataDirLock(directory)
            undo.callback(self._lock.release)
            self._engine = Engine(directory)
            undo.pop_all()
        self._app = StoreApp(self._engine)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level=logging.CRITICAL,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_CUT_OFF_S,
                h11_max_incomplete_event_size=_MAX_URL_BYTES,
            ),
            self._app,
        )

    def serve_forever(self) -> bool:
        """Serve until `stop`; then let requests finish for 2 s, stop the rest, and close the engine.

        False if the engine could not be closed because a query would not stop: then the process should end at once,
        which costs nothing that was acknowledged.
        """
        ended = uvloop.run(self._serve())
        if ended:
            self._engine.close()
            self._lock.release()
        return ended

    def stop(self) -> None:
        """Ask `serve_forever` to end; returns at once. Any thread and any signal handler may call it."""
        self._server.should_exit = True

    async def _serve(self) -> bool:
        await self._server.serve(sockets=[self._socket])
        return await self._app.stop(_STOP_S)


def run_store(
    data_dir: str | Path,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    on_ready: Callable[[StoreServer], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then end within 5 s; `on_ready` is called once connections are accepted.

    Raises:
        StoreStartError: see `StoreServer`.
    """
    server = StoreServer(data_dir, host, port)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
    if on_ready is not None:
        on_ready(server)
    log.info("store listens on http://%s:%d", server.host, server.port)
    if not server.serve_forever():
        # Waiting for its thread could take for ever; the data directory is safe against SIGKILL, so against this.
        logging.shutdown()
        os._exit(1)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own (the process's owner decides on those), with an end of our own."""

    def __init__(self, config: uvicorn.Config, app: StoreApp) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for requests to finish, the long ones being stopped after a while."""
        stopping = asyncio.create_task(self._stop_late())
        await super().shutdown(sockets)
        stopping.cancel()

    async def _stop_late(self) -> None:
        await asyncio.sleep(_FINISH_S)
        await self._app.kill_all(_CUT_OFF_S - _FINISH_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or not parsed.is_loopback:
        raise StoreStartError(
            f"The store serves this machine only and cannot listen on {host}: it has no passwords. "
            "Let it listen on 127.0.0.1 (or ::1), and use a ClickHouse server for more than one machine."
        )
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET  # noqa: PLR2004 - IP version 6
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise StoreStartError(
            f"The store cannot listen on {address}:{port}: {error.strerror}. "
            "Something else has the port: stop it, or choose another with --port or SIDETONE_STORE_PORT."
        ) from error
    listener.setblocking(False)
    return listener
