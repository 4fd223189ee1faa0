"""Reports of round trips to edges: only `ValueError`, and numbers that can be sorted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.regions import RTT_MS_MAX, ordered, read_report
from tests.fuzz.messages_of import EDGE

MODULES: Final[tuple[str, ...]] = ("relay.regions",)


def seeds() -> Mapping[str, bytes]:
    """A report, and what is none."""
    return {
        "report": b'{"rtt_ms": {"edge": 12.5, "other": 3}}',
        "silent": b'{"rtt_ms": {"edge": null}}',
        "nan": b'{"rtt_ms": {"edge": NaN}}',
    }


def run(data: bytes) -> None:
    """Read it and order by it."""
    try:
        rtts = read_report(data, [EDGE.name])
    except ValueError:
        return
    assert all(rtt is None or 0 < rtt <= RTT_MS_MAX for rtt in rtts.values())
    assert ordered([EDGE], rtts) == [EDGE]
