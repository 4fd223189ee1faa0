"""HTTP as every role serves it: bound before anything else is started, and never open without a token."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Literal

import uvicorn

from sidetone.guard import App, Scope, guarded
from sidetone.settings import Settings, SettingsError


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Bind a TCP socket.

    Args:
        host: address to listen on.
        port: port, 0 for any.
        setting: name of the port's setting, for the error.

    Raises:
        SettingsError: the address cannot be had.

    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise SettingsError(address_problem(error, host, port, setting)) from None
    return sock


def local_url(sock: socket.socket) -> str:
    """Return where this machine reaches what listens on a bound socket."""
    host, port = sock.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{local}:{port}"


def address_problem(error: OSError, host: str, port: int, setting: str) -> str:
    """Say why an address could not be had, and what to do."""
    flag, env = setting.replace("_", "-"), setting.upper()
    remedy = f"choose another with --{flag} or SIDETONE_{env}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; stop it, or {remedy}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; {remedy}"
    return f"{host}:{port} cannot be listened on ({error.strerror}); {remedy}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


async def serve(
    app: App,
    sock: socket.socket,
    settings: Settings,
    stop: asyncio.Event,
    *,
    lifespan: Literal["on", "off"] = "off",
    on_ready: Callable[[], None] = lambda: None,
    admits: Callable[[Scope], bool] | None = None,
    refusing: Callable[[App], App] | None = None,
) -> None:
    """Serve `app` on a bound socket until `stop`; open requests get 2 s to end.

    Args:
        app: what is served.
        sock: from `bind`.
        settings: the token comes from there.
        stop: ends it.
        lifespan: `on` for an app that has to be started and stopped.
        on_ready: called once, when requests are answered.
        admits: says of a request that it may pass without the token.
        refusing: wraps what refuses requests without it.

    """
    host = sock.getsockname()[0]
    token = settings.token.get_secret_value() if settings.token else None
    config = uvicorn.Config(
        guarded(app, host, token, admits, refusing),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        lifespan=lifespan,
    )
    server = _Server(config, on_ready)
    # The role handles signals itself: its parts have to end in order.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
