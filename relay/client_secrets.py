"""`POST /v1/realtime/client_secrets`: ephemeral keys, as OpenAI's endpoint gives them to an application's server."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from relay.ephemeral import TTL_DEFAULT_S, TTL_S, EphemeralKeyError, EphemeralKeys
from relay.models import ModelConfig, environment_key
from relay.models.openai_session import merged
from relay.signalling import SESSION_BYTES_MAX, bearer_of, is_own, read_body, read_json, session_fields
from relay.transceiver.story import default_session

PATH: Final = "/v1/realtime/client_secrets"
UPSTREAM_S: Final = 10.0
_NO_CACHE: Final = {"cache-control": "no-store"}


def add_client_secrets(app: FastAPI, model: ModelConfig, keys: EphemeralKeys, own_token: str | None) -> None:
    """Serve ephemeral keys.

    With a model behind OpenAI's API whose keys callers bring themselves (`hand_on`), the key of the caller is
    exchanged upstream for an ephemeral one, which is sealed into ours; nobody's real key gets into a browser.
    """

    async def create(request: Request) -> Response:
        asked = _asked(await read_body(request, SESSION_BYTES_MAX, "a request for a key"))
        session = session_fields(json.dumps(asked.get("session") or {}).encode())
        expires_at = int(time.time()) + _ttl_s(asked.get("expires_after"))
        upstream = None
        if model.name == "openai_realtime" and model.openai.hand_on:
            bearer = bearer_of(request)
            key = (None if is_own(bearer, own_token) else bearer) or environment_key()
            upstream, expires_at = await _upstream(model, key, asked, expires_at)
        try:
            value = keys.mint(session, upstream, expires_at)
        except EphemeralKeyError as error:
            raise HTTPException(413, str(error)) from None
        shown = merged(default_session(secrets.token_hex(10), model.name), session)
        answer = {"value": value, "expires_at": expires_at, "session": shown}
        return JSONResponse(answer, headers=_NO_CACHE)

    app.add_api_route(PATH, create, methods=["POST"])


def _asked(body: bytes) -> dict[str, Any]:
    asked = read_json(body or b"{}", "the request")
    if not isinstance(asked, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return asked


def _ttl_s(after: object) -> int:
    if after is None:
        return TTL_DEFAULT_S
    seconds = after.get("seconds", TTL_DEFAULT_S) if isinstance(after, Mapping) else None
    if not isinstance(seconds, int) or seconds not in TTL_S:
        raise HTTPException(400, f"expires_after.seconds is a whole number from {TTL_S[0]} to {TTL_S[-1]}")
    return seconds


async def _upstream(model: ModelConfig, key: str | None, asked: Mapping[str, Any], expires_at: int) -> tuple[str, int]:
    """Return the model's own ephemeral key and when ours has to expire."""
    if key is None:
        raise HTTPException(401, "send the model's key as a bearer token", {"www-authenticate": "Bearer"})
    body = {**asked, "session": {"type": "realtime", "model": model.openai.model, **(asked.get("session") or {})}}
    url = f"{model.openai.http_url}/client_secrets"
    try:
        async with httpx.AsyncClient(timeout=UPSTREAM_S) as client:
            answer = await client.post(url, json=body, headers={"authorization": f"Bearer {key}"})
        if answer.status_code in (401, 403):
            raise HTTPException(401, "the model refuses that key", {"www-authenticate": "Bearer"})
        given = answer.raise_for_status().json()
        return str(given["value"]), min(expires_at, int(given["expires_at"]))
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise HTTPException(502, f"the model gives no ephemeral key ({type(error).__name__})") from None
