"""Multipart bodies of the store's requests: only `StoreError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidetone.store.errors import StoreError
from sidetone.store.multipart import parse_multipart

MODULES: Final[tuple[str, ...]] = ("sidetone.store.multipart", "email.message", "email._header_value_parser")


def seeds() -> Mapping[str, bytes]:
    """The first line is the Content-Type, the rest the body."""
    kind = b"multipart/form-data; boundary=b\n"
    field = b'--b\r\nContent-Disposition: form-data; name="param_x"\r\n\r\n1\r\n'
    table = b'--b\r\nContent-Disposition: form-data; name="t"; filename="f"\r\nContent-Type: a/b\r\n\r\n1\t2\r\n'
    return {
        "field": kind + field + b"--b--\r\n",
        "file": kind + field + table + b"--b--\r\n",
        "cut": kind + field,
        "quoted": b'multipart/form-data; boundary="=_b"\n--=_b--',
        "charset": b"multipart/form-data; boundary*=utf-8''%62\n" + field + b"--b--\r\n",
    }


def run(data: bytes) -> None:
    """Split it."""
    kind, _, body = data.partition(b"\n")
    try:
        parts = parse_multipart(kind.decode("latin-1"), body)
    except StoreError:
        return
    assert sum(len(part.data) for part in parts) <= len(body)
    assert all(part.name for part in parts)
