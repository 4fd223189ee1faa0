"""What comes with an offer over HTTP: a form, a session, a token. Only HTTP's errors and `EphemeralKeyError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import HTTPException

from relay.ephemeral import EphemeralKeyError, EphemeralKeys
from relay.signalling import _fields, session_fields
from tests.fuzz.messages_of import KEY

MODULES: Final[tuple[str, ...]] = ("relay.signalling", "relay.ephemeral")

_ENCODED: Final = b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
_KEYS: Final = EphemeralKeys(KEY)


def seeds() -> Mapping[str, bytes]:
    """The first line is the Content-Type, the rest the body."""
    head = b'--b\r\nContent-Disposition: form-data; name="'
    form = head + b'sdp"\r\n\r\nv=0\r\n' + head + b'session"\r\n\r\n{"type": "realtime"}\r\n--b--\r\n'
    return {
        "form": b"multipart/form-data; boundary=b\n" + form,
        "encoded": b"multipart/form-data; boundary=b\n"
        + form.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        "session": b'\n{"type": "realtime", "instructions": "x"}',
        "token": b"\nek_AAAA",
    }


def run(data: bytes) -> None:
    """Read the body as a form, as a session and as a token."""
    kind, _, body = data.partition(b"\n")
    fields = _fields(kind.decode("latin-1"), body)
    assert all(isinstance(value, bytes) for value in fields.values())
    try:
        assert session_fields(body).get("type", "realtime") == "realtime"
    except HTTPException as error:
        if error.status_code not in {400, 413}:
            raise
    try:
        _KEYS.open(body.decode("latin-1"))
    except EphemeralKeyError:
        return
    raise AssertionError("a token was opened that nobody sealed")
