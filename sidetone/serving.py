"""HTTP as every role serves it: bound before anything else is started, and never open without a token."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from sidetone.settings import Settings, SettingsError, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


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


def address_problem(error: OSError, host: str, port: int, setting: str) -> str:
    """Say why an address could not be had, and what to do."""
    flag, env = setting.replace("_", "-"), setting.upper()
    remedy = f"choose another with --{flag} or SIDETONE_{env}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; stop it, or {remedy}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; {remedy}"
    return f"{host}:{port} cannot be listened on ({error.strerror}); {remedy}"


def guarded(app: App, host: str, token: str | None) -> App:
    """Ask for the bearer token on everything but health checks when the address is reachable from outside."""
    if is_loopback(host):
        return app
    if token is None:
        raise SettingsError(f"listening on {host} needs a token: set SIDETONE_TOKEN")
    wanted = f"Bearer {token}".encode()

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        allowed = scope["type"] == "lifespan" or scope.get("path") in _OPEN_PATHS
        if allowed or hmac.compare_digest(headers.get(b"authorization", b""), wanted):
            await app(scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 401,
                "headers": [(b"www-authenticate", b"Bearer"), (b"content-type", b"text/plain")],
            }
        )
        await send({"type": "http.response.body", "body": b"A bearer token is needed here (SIDETONE_TOKEN).\n"})

    return guard


async def serve(app: App, sock: socket.socket, settings: Settings, stop: asyncio.Event) -> None:
    """Serve `app` on a bound socket until `stop`; open requests get 2 s to end."""
    host = sock.getsockname()[0]
    token = settings.token.get_secret_value() if settings.token else None
    config = uvicorn.Config(
        guarded(app, host, token), log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="off"
    )
    server = uvicorn.Server(config)
    # The role handles signals itself: its parts have to end in order.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
