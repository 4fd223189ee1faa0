"""A receiver of OTLP over HTTP, and spans as tests look at them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """What was received.

    Attributes:
        url: where it listens, as OTEL_EXPORTER_OTLP_ENDPOINT has it.
        spans: all of them.
        resources: attributes of the resource of each request.
        status: what requests are answered with.

    """

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)

    def take(self, body: bytes) -> None:
        self.requests += 1
        if self.status != 200:
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(values(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def below(self, parent: Span, name: str | None = None) -> list[Span]:
        below = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(
            (span for span in below if name in (None, span.name)), key=lambda span: int(span.start_time_unix_nano)
        )


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listen on loopback. Requests wait while `hold` is cleared."""
    made = Receiver()
    made.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.hold.wait()
            if self.path == "/v1/traces":
                made.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            try:
                self.send_response(made.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # who asked did not wait

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes of a span, an event or a resource."""

    def value(given: AnyValue) -> Any:
        kind = given.WhichOneof("value")
        return None if kind is None else getattr(given, kind)

    found: list[KeyValue] = list(attributes)
    return {one.key: value(one.value) for one in found}
