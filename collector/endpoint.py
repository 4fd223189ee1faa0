"""`/metrics`, `/healthz` and `/readyz`, served by threads; metrics with a token if one is given.

Threads, because a liveness check has to answer for an event loop that no longer does.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from collector.errors import CollectorHaltedError

Check = Callable[[], str]
"""Returns what is wrong, or an empty string."""


class Endpoint:
    """Serves while it is entered.

    Args:
        address: where to listen; port 0 takes a free one, see `port`.
        registry: metrics to show.
        alive: what `/healthz` answers from.
        ready: what `/readyz` answers from.
        token: bearer token (RFC 6750) that `/metrics` asks for; None lets everybody see them.

    Raises:
        CollectorHaltedError: the address cannot be had.

    """

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        alive: Check,
        ready: Check,
        token: str | None = None,
    ) -> None:
        wanted = None if token is None else f"Bearer {token}".encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics" and not self._may():
                    said = b"A bearer token is needed here (SIDETONE_TOKEN).\n"
                    self._answer(HTTPStatus.UNAUTHORIZED, "text/plain", said)
                elif self.path == "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif self.path in {"/healthz", "/readyz"}:
                    wrong = (alive if self.path == "/healthz" else ready)()
                    status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
                    body = json.dumps({"status": "failing", "detail": wrong} if wrong else {"status": "ok"})
                    self._answer(status, "application/json", body.encode())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"try /metrics, /healthz or /readyz\n")

            def _may(self) -> bool:
                given = self.headers.get("Authorization", "").encode("utf-8", "replace")
                return wanted is None or hmac.compare_digest(given, wanted)

            def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
                self.send_response(status)
                if status == HTTPStatus.UNAUTHORIZED:
                    self.send_header("WWW-Authenticate", "Bearer")
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing; scrapes come every few seconds."""

        try:
            self._server = ThreadingHTTPServer(address, Handler)
        except OSError as error:
            raise CollectorHaltedError(
                f"cannot serve metrics on {address[0]}:{address[1]}: {error.strerror}. Free the port or set another "
                "(settings collector_host and collector_port)."
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="collector-endpoint", daemon=True
        )

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
