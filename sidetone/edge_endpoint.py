"""An edge's `/metrics`, `/healthz` and `/readyz`, served by a thread beside its loop."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from relay.edge import Counters
from sidetone.guard import bearer

STUCK_AFTER_S: Final = 5.0
"""A loop that has not looked at its sockets for so long forwards nothing."""

PATIENCE_S: Final = 10.0
"""For a client's next bytes; each connection has a thread while it lasts."""

CONNECTIONS_MAX: Final = 16
"""At once. For one more the oldest is cut off: whoever holds connections open must not keep health checks out."""

_ROOM_S: Final = 1.0  # for the one cut off to be gone
_BUSY_READ_BYTES: Final = 1 << 16
_BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"


class Watched(Protocol):
    """What an edge shows."""

    @property
    def silent_s(self) -> float:
        """Seconds since its loop last turned."""

    def counters(self) -> Counters:
        """What it did since it started."""


class _Server(ThreadingHTTPServer):
    """A thread for each connection, for so many at most; one request each (HTTP/1.0)."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, *args: Any, **options: Any) -> None:
        self._room = threading.Semaphore(CONNECTIONS_MAX)
        self._open: dict[Any, None] = {}  # the oldest first
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or refuse it if no thread gets free."""
        if not self._room.acquire(blocking=False):
            self._cut_off_oldest()
            if not self._room.acquire(timeout=_ROOM_S):
                with suppress(OSError):
                    request.send(_BUSY, socket.MSG_DONTWAIT)
                    request.recv(_BUSY_READ_BYTES, socket.MSG_DONTWAIT)  # what is left unread would make it a reset
                return self.shutdown_request(request)
        self._open[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._over(request)
            raise
        return None

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._over(request)

    def _cut_off_oldest(self) -> None:
        for request in list(self._open)[:1]:
            with suppress(OSError):  # it has just ended by itself
                request.shutdown(socket.SHUT_RDWR)

    def _over(self, request: Any) -> None:
        del self._open[request]
        self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away or say nothing: anybody can, as often as they like."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Metrics(Collector):
    def __init__(self, edge: Watched) -> None:
        self._edge = edge

    def collect(self) -> Iterable[Metric]:
        counters = self._edge.counters()
        yield GaugeMetricFamily("sidetone_edge_flows", "Flows open now", counters.flows)
        yield GaugeMetricFamily("sidetone_edge_calls", "Calls whose clients were heard lately", counters.calls)
        yield CounterMetricFamily("sidetone_edge_flows_opened", "Flows opened", counters.flows_opened)
        yield _by("sidetone_edge_flows_closed", "Flows closed", "reason", counters.flows_closed)
        forwarded = {"up": counters.forwarded_up, "down": counters.forwarded_down}
        yield _by("sidetone_edge_forwarded_datagrams", "Datagrams forwarded", "direction", forwarded)
        yield CounterMetricFamily(
            "sidetone_edge_messages_up", "Messages that datagrams to transceivers left in", counters.messages_up
        )
        yield _by("sidetone_edge_dropped_datagrams", "Datagrams not forwarded", "reason", counters.dropped)
        yield CounterMetricFamily(
            "sidetone_edge_overflowed_datagrams", "Datagrams that the kernel dropped unread", counters.overflowed
        )
        yield CounterMetricFamily("sidetone_edge_captured_packets", "RTP packets seen", counters.captured)
        yield CounterMetricFamily(
            "sidetone_edge_thinned_packets", "RTP packets that another's fact represents", counters.thinned
        )
        yield CounterMetricFamily(
            "sidetone_edge_keeps", "Times that a transceiver wanted a session's packets in full", counters.keeps
        )
        yield CounterMetricFamily("sidetone_edge_lost_packets", "RTP packets that were missed", counters.lost)
        yield CounterMetricFamily("sidetone_edge_found_packets", "Of these, what came after all", counters.found)
        yield _by("sidetone_edge_emitted_facts", "Facts handed on", "fact", counters.emitted)
        shed = CounterMetricFamily("sidetone_edge_shed_rows", "Rows that became no fact", labels=["fact", "reason"])
        for fact, reasons in counters.shed.items():
            for reason, rows in reasons.items():
                shed.add_metric([fact, reason], rows)
        yield shed
        yield GaugeMetricFamily(
            "sidetone_edge_waiting_packets", "RTP packets seen that may still become facts", counters.waiting
        )
        yield GaugeMetricFamily("sidetone_edge_loop_silent_seconds", "Since the loop last turned", self._edge.silent_s)


def _by(name: str, what: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


@contextmanager
def serving(
    edge: Watched, sock: socket.socket, token: str | None = None, more: Iterable[Collector] = ()
) -> Iterator[None]:
    """Serve while entered.

    Args:
        edge: whose health and metrics.
        sock: where to listen, bound.
        token: bearer token that `/metrics` asks for; None lets everybody see them.
        more: metrics of whatever belongs to it.

    """
    registry = CollectorRegistry()
    registry.register(_Metrics(edge))
    for collector in more:
        registry.register(collector)

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            status, kind = HTTPStatus.OK, "text/plain"
            if self.path == "/metrics" and not bearer(self.headers.get("Authorization", ""), token):
                status, body = HTTPStatus.UNAUTHORIZED, b"A bearer token is needed here (SIDETONE_TOKEN).\n"
            elif self.path == "/metrics":
                kind, body = CONTENT_TYPE_LATEST, generate_latest(registry)
            elif self.path in {"/healthz", "/readyz"}:
                body = b"ok\n"
                if edge.silent_s > STUCK_AFTER_S:
                    status = HTTPStatus.SERVICE_UNAVAILABLE
                    body = f"the forwarding loop has not turned for {edge.silent_s:.0f} s\n".encode()
            else:
                status, body = HTTPStatus.NOT_FOUND, b"try /metrics, /healthz or /readyz\n"
            self.send_response(status)
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing; scrapes come every few seconds."""

    with _Server(sock.getsockname()[:2], Handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = sock
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.1,), name="edge-endpoint", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
