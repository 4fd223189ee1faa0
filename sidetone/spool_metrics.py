"""Metrics of what a role's emitter does with its disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Emitting(Protocol):
    """What its emitter tells."""

    @property
    def spools_set_aside(self) -> int:
        """Damaged spools found."""

    @property
    def spools_deleted(self) -> int:
        """Damaged spools deleted."""


class SpoolMetrics(Collector):
    """Damaged spools of a role, which an operator has to hear of."""

    def __init__(self, emitter: Emitting) -> None:
        self._emitter = emitter

    def collect(self) -> Iterable[Metric]:
        """Yield them as Prometheus families."""
        yield CounterMetricFamily(
            "sidetone_emitter_spools_set_aside", "Damaged spools moved out of the way", self._emitter.spools_set_aside
        )
        yield CounterMetricFamily(
            "sidetone_emitter_spools_deleted",
            "Damaged spools deleted, because there were too many or too large ones",
            self._emitter.spools_deleted,
        )
