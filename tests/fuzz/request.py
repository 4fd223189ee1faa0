"""URL and headers of the store's requests: only `StoreError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidetone.store.errors import StoreError
from sidetone.store.request import check_settings, claim_external, parse_request

MODULES: Final[tuple[str, ...]] = ("sidetone.store.request", "urllib.parse")


def seeds() -> Mapping[str, bytes]:
    """The first line is the query string, then headers."""
    return {
        "plain": b"query=SELECT%201&query_id=abc-1&default_format=JSON&max_threads=1&param_x=5",
        "session": b"session_id=s&session_timeout=60&session_check=1&t_format=CSV&t_types=UInt8",
        "basic": b"database=x\nauthorization: Basic ZGVmYXVsdDo=\naccept-encoding: gzip",
        "key": b"\nx-clickhouse-user: default\nx-clickhouse-key: \nx-clickhouse-format: Native",
        "wrong": b"user=admin&password=x\nauthorization: Bearer x",
    }


def run(data: bytes) -> None:
    """Read it as the handler does."""
    query, *lines = data.split(b"\n")
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1").strip()
        for name, _, value in (line.partition(b":") for line in lines)
    }
    try:
        request = parse_request("POST", query, headers)
        claim_external(request, {"t"})
        check_settings(request)
    except StoreError:
        return
    assert 0 < request.session_timeout_s <= 3_600
    assert request.query_id.isprintable()
