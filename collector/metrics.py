"""Prometheus metrics of a collector, and what its health checks say. Names and labels live here only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from collector.progress import Progress, Stage

PREFIX = "sidetone_collector"
FRESHNESS_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 120.0, 600.0)
INSERT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Metrics:
    """Counts what a collector does; `observe` is one of its observers."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register in a registry of its own, or in the one given."""
        self.registry = registry or CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        self.lag = Gauge(
            f"{PREFIX}_lag_messages", "Messages in the log that are not committed", ["topic"], registry=self.registry
        )
        self._ranges = counter("ranges", "Ranges committed", "topic")
        self._replayed = counter("replayed_ranges", "Ranges of an earlier run found open and inserted again")
        self._chunks = counter("chunks", "Messages committed", "topic")
        self._bytes = counter("bytes", "Bytes of messages committed", "topic")
        self._rows = counter("rows", "Facts committed", "topic")
        self._late = counter("late_rows", "Facts stored that were observed long before they were logged", "topic")
        self._repeated = counter("repeated_chunks", "Chunks dropped because they are stored already", "topic")
        self._dead = counter("dead_letters", "Messages that could not be opened", "topic", "reason")
        self._refused = counter("insert_retries", "Inserts that the store did not confirm", "table", "kind")
        self._fenced = counter("fenced", "Times that another member took the partitions over")
        self._expired = counter("expired_messages", "Messages deleted from the log before they were loaded", "topic")
        self._insert_s = Histogram(
            f"{PREFIX}_insert_seconds",
            "Time of a confirmed insert, rollups included",
            ["table"],
            buckets=INSERT_BUCKETS,
            registry=self.registry,
        )
        self._freshness_s = Histogram(
            f"{PREFIX}_freshness_seconds",
            "From a chunk's append to the log until it can be queried and its range is committed",
            ["topic"],
            buckets=FRESHNESS_BUCKETS,
            registry=self.registry,
        )
        self._started: dict[str, float] = {}
        self._shown: set[str] = set()

    def show_lag(self, behind: Mapping[str, int]) -> None:
        """Show the lag by topic. What is not known, or another collector's now, is not shown: it would stand still."""
        for topic in self._shown - behind.keys():
            self.lag.remove(topic)
        for topic, messages in behind.items():
            self.lag.labels(topic).set(messages)
        self._shown = set(behind)

    def observe(self, progress: Progress) -> None:
        """Count one step."""
        match progress.stage:
            case Stage.INSERTING if progress.block:
                self._started[progress.block.token] = time.monotonic()
            case Stage.REFUSED if progress.block:
                self._started.pop(progress.block.token, None)
                self._refused.labels(progress.block.table, progress.kind).inc()
            case Stage.INSERTED if progress.block:
                started = self._started.pop(progress.block.token, time.monotonic())
                self._insert_s.labels(progress.block.table).observe(time.monotonic() - started)
            case Stage.OPENED if progress.opened:
                for letter in progress.opened.dead:
                    self._dead.labels(progress.opened.intent.where.topic, letter.reason).inc()
            case Stage.COMMITTED:
                self._committed(progress)
            case Stage.TAKEN_OVER:
                self._replayed.inc(progress.count)
            case Stage.FENCED:
                self._started.clear()
                self._fenced.inc()
            case Stage.EXPIRED if progress.where:
                self._expired.labels(progress.where.topic).inc(progress.count)
            case _:
                pass

    def _committed(self, progress: Progress) -> None:
        opened = progress.opened
        if opened is None:
            return
        topic = opened.intent.where.topic
        self._ranges.labels(topic).inc()
        self._chunks.labels(topic).inc(opened.messages)
        self._bytes.labels(topic).inc(opened.bytes)
        self._rows.labels(topic).inc(opened.rows)
        self._late.labels(topic).inc(opened.late_rows)
        self._repeated.labels(topic).inc(opened.repeated)
        now_ns = time.time_ns()
        for appended_ns in opened.appended_ns:
            self._freshness_s.labels(topic).observe(max(0, now_ns - appended_ns) / 1e9)


@dataclass(slots=True)
class Health:
    """What `/healthz` and `/readyz` answer from; `observe` is an observer of the collector.

    Attributes:
        migrated: the store's tables are up to date.
        joined: it owns partitions, and knows their positions.
        problem: why it cannot work now, or empty.

    """

    migrated: bool = False
    joined: bool = False
    problem: str = ""

    def observe(self, progress: Progress) -> None:
        """Follow one step."""
        match progress.stage:
            case Stage.TAKEN_OVER:
                self.joined = progress.partitions > 0
                self.problem = ""
            case Stage.REFUSED:
                self.problem = f"the store does not take rows: {progress.error}"
            case Stage.INSERTED:
                self.problem = ""
            case Stage.FENCED:
                self.joined = False
            case _:
                pass

    def not_ready(self) -> str:
        """Return why it cannot work now, or an empty string."""
        if not self.migrated:
            return self.problem or "the store's tables are not up to date yet"
        if not self.joined:
            return "it owns no partitions"
        return self.problem
