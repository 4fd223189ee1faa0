"""multipart/form-data, as clients send parameters and external tables (RFC 7578)."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

from sidetone.store.errors import StoreError

_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One field. `is_file` tells an external table from a value."""

    name: str
    is_file: bool
    data: bytes


def parse_multipart(content_type: str, body: bytes) -> list[Part]:
    """Split a body at its boundary.

    Raises:
        StoreError: not multipart, or cut short.
    """
    boundary = _parameter(content_type, "boundary")
    if not isinstance(boundary, str) or not boundary:
        raise StoreError(36, "The multipart body has no boundary in its Content-Type.")
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    # A leading CRLF makes the first delimiter like the others.
    pieces = (b"\r\n" + body).split(delimiter)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 - before the first and after the last
        raise StoreError(36, "The multipart body is cut short: its closing boundary is missing.")
    if len(pieces) > _MAX_PARTS:
        raise StoreError(36, f"The multipart body has more than {_MAX_PARTS} parts.")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, separator, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        raise StoreError(36, "A part of the multipart body has no header.")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            field = _parameter(value, "name")
            if isinstance(field, str) and field:
                return Part(field, _parameter(value, "filename") is not None, data)
    raise StoreError(36, "A part of the multipart body has no name.")


def _parameter(value: str, name: str) -> object:
    message = Message()
    message["Content-Type"] = value.strip()
    try:
        return message.get_param(name)
    except (TypeError, ValueError, LookupError):  # numbered continuations (RFC 2231) that do not go together
        return None
