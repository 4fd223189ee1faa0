"""One HTTP request taken apart: who asks, for what, with which settings and parameters."""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from sidetone.store.errors import StoreError

# Parameters of the interface itself; every other one is a setting (docs: "HTTP interface").
_RESERVED = {
    "query", "database", "user", "password", "quota_key", "query_id", "session_id", "session_timeout", "session_check",
    "close_session", "default_format", "wait_end_of_query", "buffer_size", "compress", "decompress", "stacktrace",
    "role", "client_protocol_version",
}  # fmt: skip
# Settings that only ClickHouse's HTTP server reads; the engine has no use for them.
_HTTP_ONLY = {"send_progress_in_http_headers", "http_headers_progress_interval_ms"}
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_EXTERNAL = re.compile(r"(.+)_(format|types|structure)")
_MARK = re.compile(r"[\w.:@+=-]{1,128}")
_SESSION_TIMEOUT_S, _SESSION_TIMEOUT_MAX_S = 60, 3600


@dataclass(slots=True)
class Request:
    """What the handler needs.

    Attributes:
        query: the `query` URL parameter, UTF-8, without the body.
        settings: for this request only.
        params: values of `{name:Type}` placeholders, in ClickHouse's escaped text form.
        external: per external table its `format`, `types`, `structure`.
        read_only: the method is GET or HEAD, which must not write.
        exception_tag: what brackets an error that comes after rows were sent.
    """

    query: bytes
    query_id: str
    database: str | None
    session_id: str | None
    session_timeout_s: float
    session_check: bool
    close_session: bool
    default_format: str
    wait: bool
    accept_encoding: str
    content_encoding: str
    content_type: str
    read_only: bool
    cancel_on_close: bool
    settings: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    external: dict[str, dict[str, str]] = field(default_factory=dict)
    exception_tag: str = field(default_factory=lambda: secrets.token_hex(8))


def parse_request(method: str, query_string: bytes, headers: Mapping[str, str]) -> Request:
    """Read URL and headers (lower-case names).

    Raises:
        StoreError: wrong credentials, or something that ClickHouse has and this store does not.
    """
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError as error:
        raise StoreError(36, f"The URL's parameters cannot be read: {error}.") from error
    url = dict(pairs)
    _authenticate(url, headers)
    for flag in ("compress", "decompress"):
        if _true(url.get(flag)):
            raise StoreError(
                48, f"{flag}=1 (ClickHouse's own block compression) is not supported: use Content-Encoding."
            )
    if url.get("role"):
        raise StoreError(511, f"There is no role {url['role']!r}: the store has one user and no roles.")
    query_id = url.get("query_id") or headers.get("x-clickhouse-query-id") or str(uuid.uuid4())
    if not _MARK.fullmatch(query_id):
        raise StoreError(36, "query_id may hold 1 to 128 letters, digits and ._:@+=- only.")
    request = Request(
        query=url.get("query", "").encode(),
        query_id=query_id,
        database=url.get("database") or headers.get("x-clickhouse-database"),
        session_id=url.get("session_id") or None,
        session_timeout_s=_session_timeout(url.get("session_timeout")),
        session_check=_true(url.get("session_check")),
        close_session=_true(url.get("close_session")),
        default_format=url.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
        wait=_true(url.get("wait_end_of_query")),
        accept_encoding=headers.get("accept-encoding", "") if _true(url.get("enable_http_compression", "1")) else "",
        content_encoding=headers.get("content-encoding", ""),
        content_type=headers.get("content-type", ""),
        read_only=method != "POST",
        cancel_on_close=_true(url.get("cancel_http_readonly_queries_on_client_close")),
    )
    if not _SETTING.fullmatch(request.default_format):
        raise StoreError(36, "default_format is not a name.")
    for name, value in pairs:
        if name.startswith("param_"):
            request.params[name.removeprefix("param_")] = value
        elif name not in _RESERVED and name not in _HTTP_ONLY:
            request.settings[name] = value
    return request


def claim_external(request: Request, tables: set[str]) -> None:
    """Move `NAME_format`, `NAME_types`, `NAME_structure` of multipart tables out of the settings."""
    for name in list(request.settings):
        found = _EXTERNAL.fullmatch(name)
        if found and found[1] in tables:
            request.external.setdefault(found[1], {})[found[2]] = request.settings.pop(name)


def check_settings(request: Request) -> None:
    """Raise `StoreError` for a name that cannot be a setting's."""
    for name in request.settings:
        if not _SETTING.fullmatch(name):
            raise StoreError(115, f"Unknown setting {name!r}.")


def _true(value: str | None) -> bool:
    return (value or "0").lower() not in {"0", "false", ""}


def _session_timeout(text: str | None) -> float:
    try:
        seconds = float(text) if text else _SESSION_TIMEOUT_S
    except ValueError:
        seconds = -1
    if not 0 < seconds <= _SESSION_TIMEOUT_MAX_S:
        raise StoreError(374, f"Invalid session timeout: {text!r}; give 1 to {_SESSION_TIMEOUT_MAX_S} seconds.")
    return seconds


def _authenticate(url: Mapping[str, str], headers: Mapping[str, str]) -> None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    user, password = "default", ""
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except ValueError:  # no base64, no UTF-8, or not even ASCII
            user, password = "?", "?"
    elif scheme:
        raise StoreError(
            516, f"{scheme}: Authentication failed: this store knows only the user `default`, no password."
        )
    user = headers.get("x-clickhouse-user", url.get("user", user)) or "default"
    password = headers.get("x-clickhouse-key", url.get("password", password))
    if (user, password) != ("default", ""):
        raise StoreError(
            516, f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
        )
