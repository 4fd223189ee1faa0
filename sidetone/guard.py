"""Who may use what listens beyond loopback: programs with the bearer token, browsers after logging in with it."""

from __future__ import annotations

import hmac
import html
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs, quote

from sidetone.settings import Settings, SettingsError, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGIN: Final = "/login"
COOKIE: Final = "sidetone"

_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/_stcore/health"})
_FORM_BYTES_MAX: Final = 4096
_FORM: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sidetone</title>
<style>:root{{color-scheme:light dark;font-family:system-ui}}form{{max-width:22rem;margin:20vh auto;padding:0 1rem}}
input,button{{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.4rem 0}}</style>
<form method="post" action="{action}"><h1>Sidetone</h1><label for="token">{said}</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button></form></html>
"""


def token_for(host: str, settings: Settings) -> str | None:
    """Return what is to be asked for by a server on an address: nothing on loopback, else the installation's token.

    Raises:
        SettingsError: the address is not loopback and there is no token.

    """
    if is_loopback(host):
        return None
    if settings.token is None:
        raise SettingsError(f"listening on {host} needs a token: set SIDETONE_TOKEN")
    return settings.token.get_secret_value()


def bearer(authorization: str, token: str | None) -> bool:
    """Tell whether a request's `Authorization` has the token (RFC 6750); any has if none is asked for."""
    return token is None or hmac.compare_digest(authorization.encode("utf-8", "replace"), f"Bearer {token}".encode())


def guarded(
    app: App,
    host: str,
    token: str | None,
    admits: Callable[[Scope], bool] | None = None,
    refusing: Callable[[App], App] | None = None,
) -> App:
    """Ask for the token on everything but health checks when the address is reachable from outside.

    Programs send it as a bearer token (RFC 6750). A browser gets a form, and for the right token a cookie that ends
    with its session, is sent to this host only and never from other sites' pages, and does not contain the token.
    A program whose `authorization` is for somebody else sends the token as `sidetone-token`.

    Args:
        app: what is guarded.
        host: address that it listens on.
        token: the token.
        admits: says of a request that it may pass without the token.
        refusing: wraps what refuses, to add what `app` adds to its own answers.

    Raises:
        SettingsError: the address is not loopback and there is no token.

    """
    if is_loopback(host):
        return app
    if token is None:
        raise SettingsError(f"listening on {host} needs a token: set SIDETONE_TOKEN")
    return _Guard(app, token, admits, refusing)


class _Guard:
    def __init__(
        self,
        app: App,
        token: str,
        admits: Callable[[Scope], bool] | None,
        refusing: Callable[[App], App] | None,
    ) -> None:
        self._app = app
        self._admits = admits
        self._refuse = _refuse if refusing is None else refusing(_refuse)
        self._token = token.encode()
        self._bearer = b"Bearer " + self._token
        self._ticket = hmac.digest(self._token, b"sidetone browser session", "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and scope["path"] == LOGIN and scope["method"] == "POST":
            await self._log_in(scope, receive, send)
        elif (
            scope["type"] == "lifespan"
            or scope.get("path") in _OPEN_PATHS
            or self._may(headers)
            or self._admitted(scope)
        ):
            await self._app(scope, receive, send)
        else:
            await self._refuse(scope, receive, send)

    def _admitted(self, scope: Scope) -> bool:
        return self._admits is not None and self._admits(scope)

    def _may(self, headers: dict[bytes, bytes]) -> bool:
        if hmac.compare_digest(headers.get(b"authorization", b""), self._bearer):
            return True
        if hmac.compare_digest(headers.get(b"sidetone-token", b""), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._ticket.encode())

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = _local(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("next", ["/"])[0])
        body = bytearray()
        more = True
        while more and len(body) <= _FORM_BYTES_MAX:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        given = parse_qs(body[:_FORM_BYTES_MAX].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token):
            form = _form(wanted, "That is not the token. It is SIDETONE_TOKEN of this installation.")
            return await _answer(send, 401, form, b"text/html; charset=utf-8")
        cookie = f"{COOKIE}={self._ticket}; Path=/; HttpOnly; SameSite=Strict"
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return await _answer(
            send, 303, b"", b"text/plain", (b"location", wanted.encode()), (b"set-cookie", (cookie + secure).encode())
        )


async def _refuse(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # policy violation; becomes a 403
    elif b"text/html" in dict(scope.get("headers", ())).get(b"accept", b""):
        await _answer(send, 401, _form(_wanted(scope), "Token (SIDETONE_TOKEN)"), b"text/html; charset=utf-8")
    else:
        await _answer(send, 401, b"A bearer token is needed here (SIDETONE_TOKEN).\n", b"text/plain")


def _wanted(scope: Scope) -> str:
    path = str(scope.get("path", "/"))
    query = scope.get("query_string", b"").decode("latin-1")
    return _local("/" if path == LOGIN else quote(path) + (f"?{query}" if query else ""))


def _local(target: str) -> str:
    """Return where to go after the log-in, on this host whatever was asked."""
    good = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isascii() and target.isprintable()
    return target if good else "/"


def _form(wanted: str, said: str) -> bytes:
    action = f"{LOGIN}?next={quote(wanted, safe='')}"
    return _FORM.format(action=html.escape(action), said=html.escape(said)).encode()


async def _answer(send: Send, status: int, body: bytes, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
    challenge = ((b"www-authenticate", b"Bearer"),) if status == 401 else ()  # noqa: PLR2004 - RFC 6750, section 3
    fixed = ((b"content-type", kind), (b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *challenge, *headers]})
    await send({"type": "http.response.body", "body": body})
