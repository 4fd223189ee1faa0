"""Colours and pieces that several charts share; legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

PALETTE: Final = ("#3b82f6", "#f59e0b", "#14b8a6", "#8b5cf6", "#f43f5e", "#84cc16")
USER: Final = "#3b82f6"
AGENT: Final = "#8b5cf6"
QUIET: Final = "#94a3b8"
BAD: Final = "#ef4444"
WARN: Final = "#f59e0b"
ODD: Final = "#14b8a6"


def colours(regions: Sequence[str]) -> dict[str, str]:
    """Return a colour for each region, the same wherever the same regions are shown."""
    return {region: PALETTE[index % len(PALETTE)] for index, region in enumerate(sorted(set(regions)))}


def time_axis() -> dict[str, Any]:
    """Return a horizontal axis of UTC time."""
    return {"type": "time", "splitLine": {"show": False}, "axisLabel": {"hideOverlap": True}, "splitNumber": 4}


def value_axis(name: str, **more: Any) -> dict[str, Any]:
    """Return a vertical axis with its unit written above it."""
    return {
        "type": "value",
        "name": name,
        "nameLocation": "end",
        "nameTextStyle": {"align": "right", "padding": [0, 6, 0, 0]},
        "min": 0,
        "splitNumber": 3,
    } | more


def milliseconds(at_ns: int) -> int:
    """Return a time as ECharts counts it."""
    return at_ns // 1_000_000


def seconds(start_ns: int, at_ns: int) -> float:
    """Return a time as seconds since a start."""
    return round((at_ns - start_ns) / 1e9, 4)
