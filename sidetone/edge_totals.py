"""What several workers of one edge did, as if it were one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.edge import Counters

NOTHING = Counters(
    flows=0,
    flows_opened=0,
    flows_closed={},
    forwarded_up=0,
    forwarded_down=0,
    dropped={},
    overflowed=0,
    captured=0,
    emitted={},
    shed={},
)
"""Counters of who did nothing yet."""


def total(parts: Iterable[Counters]) -> Counters:
    """Return the sum."""
    return Counters(**reduce(_sum, map(asdict, parts), asdict(NOTHING)))


def over(counters: Counters) -> Counters:
    """Return what stays of a worker's counters when it has ended.

    What it held went with it. What the kernel dropped is counted from when the socket was made, so that the worker
    which gets the socket next has it in its own count.
    """
    return replace(counters, flows=0, calls=0, waiting=0, overflowed=0)


class WorkerMetrics(Collector):
    """How many workers there are, and what each place among them carries: as many labels as there are places.

    Args:
        forwarding: returns the number of workers that forward now.
        restarts: returns how often one was started again.
        carried: returns datagrams forwarded by place.

    """

    def __init__(
        self, forwarding: Callable[[], int], restarts: Callable[[], int], carried: Callable[[], Mapping[int, int]]
    ) -> None:
        self._forwarding, self._restarts, self._carried = forwarding, restarts, carried

    def collect(self) -> Iterable[Metric]:
        """Yield them as Prometheus families."""
        yield GaugeMetricFamily("sidetone_edge_workers", "Workers that forward now", self._forwarding())
        yield CounterMetricFamily("sidetone_edge_worker_restarts", "Workers that ended unasked", self._restarts())
        family = CounterMetricFamily(
            "sidetone_edge_worker_forwarded_datagrams", "Datagrams forwarded, both ways", labels=["worker"]
        )
        for place, count in self._carried().items():
            family.add_metric([str(place)], count)
        yield family


def _sum(one: Any, other: Any) -> Any:
    """Add numbers, and mappings key by key."""
    if isinstance(one, dict):
        return {
            key: _sum(one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
            for key in {**one, **other}
        }
    return one + other
