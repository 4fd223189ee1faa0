"""Signalling over HTTP: offers in, answers out, and the page on which a person talks to the agent.

`POST /v1/realtime/calls` is the shape of OpenAI's Realtime API over WebRTC and, but for its path, WHIP (RFC 9725), so
`/whip` is the same: an SDP offer in, 201 with the answer and a `Location` out, and `DELETE` on that location ends it.
What else an application written for that API needs is here, too: the form with a session, ephemeral keys, `hangup`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from relay.behaviours import HEADER
from relay.client_secrets import PATH as CLIENT_SECRETS
from relay.client_secrets import add_client_secrets
from relay.ephemeral import EphemeralKeyError, EphemeralKeys
from relay.models import ModelError
from relay.regions import AUTO, Board, client_of, make_router, ordered
from relay.signalling import SDP, application_of, read_offer
from relay.tracing_header import parent_of
from relay.transceiver import BusyError, OfferError, Transceiver, UnknownRegionError
from relay.transceiver.behaviour import BehaviourError

CALLS: Final = "/v1/realtime/calls"
WHIP: Final = "/whip"
RETRY_AFTER_S: Final = 5
USER_AGENT_CHARS_MAX: Final = 200

_PAGE: Final = Path(__file__).parent / "page"
_ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "call.js": "text/javascript"}
_PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_NO_CACHE: Final = {"cache-control": "no-store"}
_PROBLEMS: Final[dict[type[Exception], tuple[int, dict[str, str]]]] = {
    OfferError: (400, {}),
    BehaviourError: (403, {}),
    UnknownRegionError: (400, {}),
    ModelError: (401, {"www-authenticate": "Bearer"}),
    BusyError: (503, {"retry-after": str(RETRY_AFTER_S)}),
}


def create_app(
    transceiver: Transceiver,
    *,
    allowed_origins: Sequence[str] = (),
    keys: EphemeralKeys | None = None,
    own_token: str | None = None,
    metrics: Sequence[Collector] = (),
) -> FastAPI:
    """Return the relay's HTTP interface around a transceiver that is started and closed elsewhere.

    Args:
        transceiver: who takes the calls.
        allowed_origins: pages of other origins that may call from a browser, `*` for all; by default none.
        keys: makes ephemeral keys; without it there are none.
        own_token: the token of this installation, which is never handed on to a model.
        metrics: to be shown besides the transceiver's.

    """
    app = FastAPI(title="Sidetone relay", docs_url=None, redoc_url=None, openapi_url=None)
    if allowed_origins:
        app.add_middleware(CORSMiddleware, **_across(allowed_origins))
    registry = CollectorRegistry()
    for shown in (transceiver.counters, *metrics):
        registry.register(shown)
    board = Board()
    _add_signalling(app, transceiver, board, keys, own_token)
    _add_problems(app)
    if keys is not None:
        add_client_secrets(app, transceiver.config.model, keys, own_token)
    _add_health(app, transceiver, registry)
    _add_page(app, transceiver)
    app.include_router(make_router(transceiver, board))
    return app


def readable(app: ASGIApp, allowed_origins: Sequence[str]) -> ASGIApp:
    """Return `app` such that pages of other origins that may call can read its answers (Fetch, section 3.3).

    For what stands before the relay's own interface: a refusal that a page cannot read looks like a dead network to it.
    """
    return CORSMiddleware(app, **_across(allowed_origins)) if allowed_origins else app


def _across(allowed_origins: Sequence[str]) -> dict[str, Any]:
    return {
        "allow_origins": list(allowed_origins),
        "allow_methods": ["POST", "DELETE", "OPTIONS"],
        "allow_headers": ["*"],
        "expose_headers": ["location"],
    }


def admits(keys: EphemeralKeys) -> Callable[[MutableMapping[str, Any]], bool]:
    """Return who may pass without the installation's token: who calls with an ephemeral key, and a browser's preflight.

    A preflight carries no token (Fetch, section 4.8) and learns only which origins may call.
    """

    def may(scope: MutableMapping[str, Any]) -> bool:
        path = str(scope.get("path", ""))
        if scope.get("type") != "http" or not (path == CLIENT_SECRETS or _is_call(path)):
            return False
        if scope.get("method") == "OPTIONS":
            return True
        given = dict(scope.get("headers", ())).get(b"authorization", b"").decode("latin-1")
        try:
            keys.open(given.removeprefix("Bearer "))
        except EphemeralKeyError:
            return False
        return _is_call(path)

    return may


def _is_call(path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in (CALLS, WHIP))


def _way_in(request: Request, transceiver: Transceiver, board: Board) -> dict[str, Any]:
    region = request.query_params.get("region")
    rtts = board.rtts(client_of(request), time.monotonic())
    prefer = [edge.name for edge in ordered(transceiver.edges, rtts)] if rtts else []
    return {"region": None if region == AUTO else region, "prefer": prefer if region else []}


def _add_signalling(
    app: FastAPI, transceiver: Transceiver, board: Board, keys: EphemeralKeys | None, own_token: str | None
) -> None:
    async def call(request: Request) -> Response:
        offer, session = await read_offer(request)
        application = application_of(request, session, keys, own_token)
        try:
            answer = await transceiver.answer(
                offer,
                **_way_in(request, transceiver, board),
                attributes=_attributes(request),
                behaviour=request.headers.get(HEADER),
                application=application,
            )
        except tuple(_PROBLEMS) as error:
            status, headers = _PROBLEMS[type(error)]
            raise HTTPException(status, str(error), headers) from error
        location = f"{request.url.path.rstrip('/')}/{answer.session_id}"
        return Response(answer.sdp, 201, {"location": location, **_NO_CACHE}, SDP)

    async def hang_up(session_id: str) -> Response:
        try:
            known = await transceiver.hangup(uuid.UUID(session_id), "client", "hangup")
        except ValueError:
            known = False
        if not known:
            raise HTTPException(404, "there is no such call, or it is over")
        return Response(status_code=200, headers=_NO_CACHE)

    async def options() -> Response:
        # RFC 9725, section 4.2: tells what may be posted here.
        return Response(status_code=204, headers={"accept-post": SDP, "allow": "POST, OPTIONS"})

    for path in (CALLS, WHIP):
        app.add_api_route(path, call, methods=["POST"])
        app.add_api_route(path, options, methods=["OPTIONS"])
        app.add_api_route(f"{path}/{{session_id}}", hang_up, methods=["DELETE"])
    app.add_api_route(f"{CALLS}/{{session_id}}/hangup", hang_up, methods=["POST"])


def _add_problems(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        # A person reads these, in a terminal or on the page: one sentence, no JSON around it.
        if not isinstance(error, HTTPException):
            raise error
        if request.url.path == CLIENT_SECRETS:  # where a program reads them
            said = {"type": "invalid_request_error", "message": error.detail, "code": None, "param": None}
            return JSONResponse({"error": said}, error.status_code, error.headers)
        return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)

    app.add_exception_handler(HTTPException, problem)


def _attributes(request: Request) -> Mapping[str, str]:
    agent = request.headers.get("user-agent", "")[:USER_AGENT_CHARS_MAX]
    attributes = {"user_agent": agent, "signalling": request.url.path, **parent_of(request.headers.getlist)}
    if "audio" in (request.query_params.get("consent"), request.headers.get("sidetone-consent")):
        attributes["consent"] = "audio"
    return attributes


def _add_health(app: FastAPI, transceiver: Transceiver, registry: CollectorRegistry) -> None:
    @app.get("/healthz")
    async def alive() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def ready() -> Response:
        if transceiver.ready:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("not ready: no edge is known, or all lines are taken\n", 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI, transceiver: Transceiver) -> None:
    @app.get("/")
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html", headers=_PAGE_HEADERS)

    def asset(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
        async def serve() -> Response:
            return FileResponse(_PAGE / name, media_type=kind, headers=_PAGE_HEADERS)

        return serve

    for name, kind in _ASSETS.items():
        app.add_api_route(f"/page/{name}", asset(name, kind), methods=["GET"])

    @app.get("/v1/regions")
    async def regions() -> Response:
        names = list(dict.fromkeys(edge.region for edge in transceiver.edges))
        return JSONResponse({"regions": names, "model": transceiver.config.model.name}, headers=_NO_CACHE)
