"""The way of spans out of the process: a bounded queue, one thread, OTLP over HTTP.

What does not fit into the queue and what the receiver does not take is lost, counted, and said once a minute at most.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from relay import tracing_names as names
from relay.tracing_calls import Calls
from relay.transceiver.facts import FactSink

FLUSH_S: Final = 1.5
"""Given to what is left at the end; then no failed try is repeated, and what is under way gets `BREAK_OFF_S`."""

BREAK_OFF_S: Final = 0.5
SAY_EVERY_S: Final = 60.0
PROBLEM_CHARS_MAX: Final = 80
QUEUE_MAX: Final = 2048
"""Spans that wait, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise; OpenTelemetry's default."""

_LIBRARY: Final = logging.getLogger(trace_exporter.__name__)
_log = structlog.get_logger(__name__)


@dataclass
class Counts:
    """Of spans. Each number has one thread that writes it, so that the one with the calls never waits for a lock."""

    queued: int = 0
    dropped: int = 0
    taken: int = 0
    sent: int = 0
    failed: int = 0

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return self.queued - self.taken


class Traces(Collector):
    """What is traced in this process, and a Prometheus collector of what became of it.

    Args:
        receiver: where spans are sent, for the log; OpenTelemetry's variables say it to its library.
        version: of the software.

    """

    def __init__(self, receiver: str, version: str) -> None:
        self.counts = Counts()
        self._receiver = receiver
        self._version = version
        self._exporter: _Exporter | None = None
        told = Resource.create()  # with what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, which goes before
        nameless = str(told.attributes[names.SERVICE_NAME]).startswith("unknown_service")
        ours = Resource({names.SERVICE_NAME: names.SERVICE} if nameless else {})
        resource = Resource({names.SERVICE_VERSION: version}).merge(told).merge(ours)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)

    def watching(self, facts: FactSink) -> FactSink:
        """Return a sink that makes spans of the facts that go through it to another."""
        return Calls(facts, self._provider.get_tracer(names.SCOPE, self._version))

    def start(self) -> None:
        """Start the thread that sends. Spans that were made before are lost."""
        self._exporter = _Exporter(self.counts, self._receiver)
        self._provider.add_span_processor(_Queue(self._exporter, self.counts))
        _log.info("the traces of calls are sent by OTLP", receiver=self._receiver)

    def close(self) -> None:
        """Send what is left, for 2 s at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces close", daemon=True)
        closing.start()
        closing.join(FLUSH_S)
        if closing.is_alive() and self._exporter is not None:
            self._exporter.break_off()
            closing.join(BREAK_OFF_S)
        if self.counts.waiting:
            _log.warning("spans were left unsent", receiver=self._receiver, spans=self.counts.waiting)

    def collect(self) -> Iterable[Metric]:
        """Yield the counts."""
        family = CounterMetricFamily(
            "sidetone_transceiver_spans", "Spans of traces by what became of them", labels=["fate"]
        )
        for fate in ("sent", "failed", "dropped"):
            family.add_metric([fate], getattr(self.counts, fate))
        yield family


class _Queue(BatchSpanProcessor):
    """The library's queue and thread, but what it has no room for is counted."""

    def __init__(self, exporter: SpanExporter, counts: Counts) -> None:
        self._counts = counts
        self._room = _queue_max()
        super().__init__(exporter, self._room, max_export_batch_size=min(self._room, 512))

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span."""
        if not span.context.trace_flags.sampled:
            return
        if self._counts.waiting >= self._room:
            self._counts.dropped += 1
            return
        self._counts.queued += 1
        super().on_end(span)


def _queue_max() -> int:
    given = os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE, "").strip()
    return int(given) if given.isdecimal() and int(given) else QUEUE_MAX


class _Exporter(SpanExporter):
    """Sends batches, in the queue's thread. What the library has to say of its tries becomes one line."""

    def __init__(self, counts: Counts, receiver: str) -> None:
        self._counts = counts
        self._receiver = receiver
        self._said_s: float | None = None
        self._problem = "unknown"
        _LIBRARY.addFilter(self._overheard)
        self._otlp = OTLPSpanExporter()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._counts.taken += len(spans)
        result = self._otlp.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._counts.sent += len(spans)
        else:
            self._counts.failed += len(spans)
            self._say()
        return result

    def shutdown(self) -> None:
        self.break_off()
        _LIBRARY.removeFilter(self._overheard)

    def break_off(self) -> None:
        """Try nothing again."""
        self._otlp.shutdown()  # type: ignore[no-untyped-call]

    def _overheard(self, record: logging.LogRecord) -> bool:
        """Keep what went wrong, without the text of errors: the URL in it may have a key."""
        words = [
            type(said).__name__ if isinstance(said, Exception) else str(said)
            for said in (record.args if isinstance(record.args, tuple) else ())
            if isinstance(said, Exception | int | str) and said != "spans"
        ]
        self._problem = " ".join(words)[:PROBLEM_CHARS_MAX] or self._problem
        return False

    def _say(self) -> None:
        now_s = time.monotonic()
        if self._said_s is None or now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            _log.warning(
                "traces are not taken; calls go on. Check OTEL_EXPORTER_OTLP_ENDPOINT, or unset it",
                receiver=self._receiver,
                problem=self._problem,
                spans_lost=self._counts.failed,
                spans_dropped=self._counts.dropped,
            )
