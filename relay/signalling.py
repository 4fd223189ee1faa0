"""What comes with an offer: the SDP, plain or in a form, the session that is asked for, and a bearer token."""

from __future__ import annotations

import hmac
import json
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import Any, Final

from fastapi import HTTPException, Request

from relay.ephemeral import PREFIX, EphemeralKeyError, EphemeralKeys
from relay.models import Application
from relay.models.openai_session import merged
from relay.transceiver.offer import OFFER_BYTES_MAX

SDP: Final = "application/sdp"
FORM: Final = "multipart/form-data"
SESSION_BYTES_MAX: Final = 65_536
FORM_BYTES_MAX: Final = OFFER_BYTES_MAX + SESSION_BYTES_MAX + 4_096
NESTING_MAX: Final = 100
_BEARER: Final = "bearer "


async def read_offer(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the SDP offer and the fields of the session that came with it.

    OpenAI's endpoint takes the SDP alone (`application/sdp`) or a form with the fields `sdp` and `session`.

    Raises:
        HTTPException: it is neither, or too long.

    """
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind == SDP:
        body = await read_body(request, OFFER_BYTES_MAX, "an offer")
        return _text(body, "the offer"), {}
    if kind != FORM:
        raise HTTPException(415, f"send the SDP offer as content-type {SDP} or {FORM}, not {kind or 'without one'}")
    fields = _fields(given, await read_body(request, FORM_BYTES_MAX, "a form with an offer"))
    if "sdp" not in fields:
        raise HTTPException(400, "the form has no field `sdp`")
    if len(fields["sdp"]) > OFFER_BYTES_MAX:
        raise HTTPException(413, f"an offer has at most {OFFER_BYTES_MAX} bytes")
    return _text(fields["sdp"], "the offer"), session_fields(fields.get("session", b"{}"))


async def read_body(request: Request, bytes_max: int, what: str) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: it is too long.

    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise HTTPException(413, f"{what} has at most {bytes_max} bytes")
    return bytes(body)


def read_json(text: bytes, what: str) -> Any:
    """Return what a text says; no deeper than what it becomes part of can be written again.

    Raises:
        HTTPException: it is not JSON, or nested too deeply.

    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"{what} is not JSON") from None
    level = [value] if _nests(value) else []
    for _ in range(NESTING_MAX):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one) if _nests(inner)]
        if not level:
            return value
    raise HTTPException(400, f"{what} is nested more than {NESTING_MAX} levels deep")


def session_fields(text: bytes) -> dict[str, Any]:
    """Return a session given as JSON.

    Raises:
        HTTPException: it is no realtime session.

    """
    if len(text) > SESSION_BYTES_MAX:
        raise HTTPException(413, f"a session has at most {SESSION_BYTES_MAX} bytes")
    session = read_json(text, "the session")
    if not isinstance(session, dict) or session.get("type", "realtime") != "realtime":
        raise HTTPException(400, "the session is not an object of type `realtime`")
    return session


def bearer_of(request: Request) -> str | None:
    """Return the request's bearer token (RFC 6750, section 2.1)."""
    given = request.headers.get("authorization", "")
    return given[len(_BEARER) :].strip() or None if given.lower().startswith(_BEARER) else None


def is_own(bearer: str | None, own_token: str | None) -> bool:
    """Tell whether a request's token is the one that opens this installation."""
    if bearer is None or own_token is None:
        return False
    return hmac.compare_digest(bearer.encode("utf-8", "replace"), own_token.encode())


def application_of(
    request: Request, session: dict[str, Any], keys: EphemeralKeys | None, own_token: str | None
) -> Application:
    """Return what the application brings: its session and its key for the model.

    The token that opens this installation is never taken for one of the model's.

    Raises:
        HTTPException: its ephemeral key is not good.

    """
    bearer = bearer_of(request)
    if bearer is None or is_own(bearer, own_token):
        return Application(session)
    if keys is not None and bearer.startswith(PREFIX):
        try:
            opened = keys.open(bearer)
        except EphemeralKeyError as error:
            raise HTTPException(401, str(error), {"www-authenticate": "Bearer"}) from None
        return Application(merged(opened.session, session), opened.upstream)
    return Application(session, bearer)


def _fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Read a form (RFC 7578); of fields of one name the first counts."""
    head = f"content-type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message: Message = BytesParser(policy=compat32).parsebytes(head + body)
    fields: dict[str, bytes] = {}
    parts = message.get_payload()
    for part in parts if isinstance(parts, list) else ():
        name = part.get_param("name", header="content-disposition") if isinstance(part, Message) else None
        if isinstance(part, Message) and isinstance(name, str) and not part.is_multipart():
            content = part.get_payload(decode=True)
            fields.setdefault(name, content if isinstance(content, bytes) else b"")
    return fields


def _nests(value: object) -> bool:
    return isinstance(value, dict | list)


def _text(body: bytes, what: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"{what} is not UTF-8 text") from error
