"""What edges and transceivers are doing this moment: two readings of their metrics, and the difference of them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from sidetone.endpoints import Endpoint

TIMEOUT_S: Final = 2.0
BYTES_MAX: Final = 4 << 20

Values = Mapping[str, Mapping[str, float]]
"""Sample name → value of its one label (empty if it has none) → value."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One process's metrics at one time, or why there are none."""

    endpoint: Endpoint
    at_s: float
    values: Values = field(default_factory=dict)
    trouble: str | None = None

    def total(self, name: str) -> float:
        """Return a sample's sum over its labels."""
        return sum(self.values.get(name, {}).values())

    def known(self, name: str) -> bool:
        """Whether the process shows a sample of this name."""
        return name in self.values


def read(endpoint: Endpoint, token: str | None = None) -> Reading:
    """Ask a process for its metrics."""
    request = urllib.request.Request(f"{endpoint.url}/metrics")  # noqa: S310 - http, from our own file or flag
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - see above
            text = answer.read(BYTES_MAX).decode()
    except urllib.error.HTTPError as error:
        asked = error.code == HTTPStatus.UNAUTHORIZED
        said = "asks for its token: set SIDETONE_TOKEN to it" if asked else f"answers with status {error.code}"
        return Reading(endpoint, monotonic(), trouble=f"{endpoint.url} {said}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Reading(endpoint, monotonic(), trouble=f"does not answer at {endpoint.url}: {reason}")
    return Reading(endpoint, monotonic(), parse(text))


def parse(text: str) -> Values:
    """Read Prometheus's text format; a sample of several labels is summed over all but the first."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = next(iter(sample.labels.values()), "")
            of_name = values.setdefault(sample.name, {})
            of_name[label] = of_name.get(label, 0.0) + sample.value
    return values


def rates(before: Reading, after: Reading) -> dict[str, Any]:
    """Return what a process did between two readings, per second, and what it counted since its start.

    Keys that end in `_per_s` are rates; what the process does not show is None. A process that was restarted between
    the two has counted from zero.
    """
    row: dict[str, Any] = {
        "role": after.endpoint.role,
        "name": after.endpoint.name,
        "region": after.endpoint.region,
        "trouble": after.trouble,
    }
    if after.trouble is not None:
        return row
    return row | (_edge if after.endpoint.role == "edge" else _transceiver)(before, after)


def _edge(before: Reading, after: Reading) -> dict[str, Any]:
    forwarded = "sidetone_edge_forwarded_datagrams_total"
    seen = _increase(before, after, "sidetone_edge_captured_packets_total")
    lost = _increase(before, after, "sidetone_edge_lost_packets_total")
    found = _increase(before, after, "sidetone_edge_found_packets_total")
    missed = None if lost is None else max(0.0, lost - (found or 0.0))
    return {
        "calls": round(after.total("sidetone_edge_calls")),
        "up_per_s": _per_s(before, after, forwarded, "up"),
        "down_per_s": _per_s(before, after, forwarded, "down"),
        "voice_per_s": _per_s(before, after, "sidetone_edge_captured_packets_total"),
        "loss": None if missed is None or seen is None or missed + seen <= 0 else missed / (missed + seen),
        "dropped_per_s": _dropped(before, after, "sidetone_edge_flows", "sidetone_edge_dropped_datagrams_total"),
        "dropped": _counts(after, "sidetone_edge_dropped_datagrams_total"),
        "shed": round(after.total("sidetone_edge_shed_rows_total")),
        "overflowed": round(after.total("sidetone_edge_overflowed_datagrams_total")),
        "silent_s": after.total("sidetone_edge_loop_silent_seconds"),
    }


def _transceiver(before: Reading, after: Reading) -> dict[str, Any]:
    return {
        "calls": round(after.total("sidetone_transceiver_sessions")),
        "voice_per_s": _per_s(before, after, "sidetone_transceiver_packets_total"),
        "dropped_per_s": _dropped(before, after, "sidetone_transceiver_sessions", "sidetone_transceiver_drops_total"),
        "dropped": _counts(after, "sidetone_transceiver_drops_total"),
        "overflowed": round(after.values.get("sidetone_transceiver_drops_total", {}).get("socket_overflow", 0)),
        "underruns": round(after.total("sidetone_transceiver_underruns_total")),
    }


def _increase(before: Reading, after: Reading, name: str, label: str | None = None) -> float | None:
    if not after.known(name):
        return None
    now, then = (
        one.total(name) if label is None else one.values.get(name, {}).get(label, 0.0) for one in (after, before)
    )
    return now - then if now >= then else now


def _per_s(before: Reading, after: Reading, name: str, label: str | None = None) -> float | None:
    increase = _increase(before, after, name, label)
    return None if increase is None else increase / max(1e-3, after.at_s - before.at_s)


def _dropped(before: Reading, after: Reading, always: str, name: str) -> float | None:
    # What is counted by reason shows nothing before the first.
    return 0.0 if after.known(always) and not after.known(name) else _per_s(before, after, name)


def _counts(after: Reading, name: str) -> dict[str, int]:
    return {label: round(count) for label, count in after.values.get(name, {}).items() if count}
