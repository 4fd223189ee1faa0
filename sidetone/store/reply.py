"""The response side: headers as ClickHouse sends them, whole or chunked, compressed as asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sidetone.store.encoding import choose, encoder
from sidetone.store.engine import Counts
from sidetone.store.errors import StoreError
from sidetone.store.request import Request
from sidetone.store.spool import Spool

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

SEND_TIMEOUT_S = 300.0
_CHUNK = 1 << 20
# Below this, compressing on the event loop costs less than handing over to a thread.
_INLINE_BYTES = 1 << 16

_CONTENT_TYPES = (
    ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
    ("TSV", "text/tab-separated-values; charset=UTF-8"),
    ("CSV", "text/csv; charset=UTF-8"),
    ("JSON", "application/json; charset=UTF-8"),
    ("Native", "application/octet-stream"),
    ("RowBinary", "application/octet-stream"),
    ("Arrow", "application/octet-stream"),
    ("Parquet", "application/octet-stream"),
)


class AbortedResponseError(Exception):
    """The response broke off on purpose, after its error was sent; closing the connection is what is left."""


class Reply:
    """One response.

    Attributes:
        started: headers are out, so a failure can only break the response off.
        request: set as soon as it is known; None while it is being read.
    """

    def __init__(self, send: Send, version: str, timezone: str, host_name: str) -> None:
        self._send, self._version, self._timezone, self._host_name = send, version, timezone, host_name
        self.request: Request | None = None
        self.started = False
        self._encoder: Any = None

    async def whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send a complete response."""
        await self._start(status, {**headers, "content-length": str(len(body))})
        await self._body(body, more=False)

    async def error(self, error: StoreError) -> None:
        """Send an error: with its status if still possible, else in the stream, breaking it off.

        Raises:
            AbortedResponseError: the response had begun.
        """
        body = error.body(self._version)
        if not self.started:
            headers = {
                **self._common(),
                "content-type": "text/plain; charset=UTF-8",
                "x-clickhouse-exception-code": str(error.code),
            }
            await self.whole(error.status, body, headers)
            return
        tag = self.request.exception_tag.encode() if self.request else b""
        block = b"__exception__\r\n" + tag + b"\r\n" + body
        block += str(len(body)).encode() + b" " + tag + b"\r\n__exception__\r\n"
        if self._encoder is not None:
            block = self._encoder.feed(block) + self._encoder.finish()
        await self._body(block, more=True)
        # Without the last chunk nobody can take what came for the whole.
        raise AbortedResponseError(error.message)

    async def rows(self, held: Spool, result_format: str | None, counts: Counts | None) -> None:
        """Begin a chunked response with what `held` has; `counts` if the query has ended already."""
        await self._start(200, self._result_headers(result_format, counts, compressed=True))
        offset = 0
        while chunk := held.read(offset, _CHUNK):
            offset += len(chunk)
            await self.more(chunk)

    async def more(self, chunk: bytes) -> None:
        """Send more rows, waiting for a slow reader up to `SEND_TIMEOUT_S`."""
        if self._encoder is not None:
            if len(chunk) <= _INLINE_BYTES:
                chunk = self._encoder.feed(chunk)
            else:
                chunk = await asyncio.to_thread(self._encoder.feed, chunk)
        if chunk:
            await self._body(chunk, more=True)

    async def end(self) -> None:
        """End a chunked response."""
        await self._body(self._encoder.finish() if self._encoder else b"", more=False)

    async def result(self, held: Spool, result_format: str | None, counts: Counts) -> None:
        """Send a finished query's whole result."""
        if held.size > _CHUNK:
            await self.rows(held, result_format, counts)
            await self.end()
            return
        headers = self._result_headers(result_format, counts, compressed=held.size > 0)
        body = held.read(0, held.size)
        if self._encoder is not None:
            body = self._encoder.feed(body) + self._encoder.finish()
        await self.whole(200, body, headers)

    def _common(self) -> dict[str, str]:
        headers = {
            "x-clickhouse-server-display-name": self._host_name,
            "x-clickhouse-timezone": (self.request and self.request.settings.get("session_timezone")) or self._timezone,
        }
        if self.request is not None:
            headers["x-clickhouse-query-id"] = self.request.query_id
            headers["x-clickhouse-exception-tag"] = self.request.exception_tag
        return headers

    def _result_headers(self, result_format: str | None, counts: Counts | None, *, compressed: bool) -> dict[str, str]:
        headers = {**self._common(), "x-clickhouse-summary": _summary(counts or Counts())}
        if result_format is not None:
            headers["x-clickhouse-format"] = result_format
            headers["content-type"] = next(
                (kind for prefix, kind in _CONTENT_TYPES if result_format.startswith(prefix)),
                "text/plain; charset=UTF-8",
            )
        encoding = choose(self.request.accept_encoding) if self.request and compressed else None
        if encoding is not None:
            self._encoder = encoder(encoding)
            headers["content-encoding"] = encoding
        return headers

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self.started = True
        pairs = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _body(self, body: bytes, *, more: bool) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": more}
        await asyncio.wait_for(self._send(message), SEND_TIMEOUT_S)


def _summary(counts: Counts) -> str:
    """X-ClickHouse-Summary: numbers as strings, as ClickHouse writes them."""
    return json.dumps(
        {
            "read_rows": str(counts.read_rows),
            "read_bytes": str(counts.read_bytes),
            "written_rows": str(counts.written_rows),
            "written_bytes": str(counts.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(counts.result_rows or counts.written_rows),
            "result_bytes": "0",
            "elapsed_ns": str(int(counts.elapsed_s * 1e9)),
        },
        separators=(",", ":"),
    )
