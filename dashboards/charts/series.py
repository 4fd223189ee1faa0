"""Charts over time: latency of one region, and any number of all regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.charts.parts import QUIET, colours, milliseconds, time_axis, value_axis

Records = Sequence[dict[str, Any]]

_LINES = (("p50", 2.5, "solid", 1.0), ("p90", 1.5, "solid", 0.65), ("p95", 1.5, "dashed", 0.9))


def latency(records: Records, colour: str, top_ms: float | None) -> dict[str, Any]:
    """Return the percentiles of one region over time, with the number of turns behind them as bars at the foot.

    Args:
        records: the region's rows of `overview_series`.
        colour: the region's.
        top_ms: the highest value over all regions, so that charts side by side have one scale; None without any.

    """
    most = max((row["latency_n"] for row in records), default=0)
    lines = [
        {
            "type": "line",
            "name": name,
            "data": [[milliseconds(row["at_ns"]), row[f"latency_{name}_ms"]] for row in records],
            "showSymbol": True,
            "symbolSize": 5,
            "connectNulls": False,
            "lineStyle": {"width": width, "type": style, "opacity": opacity},
            "itemStyle": {"color": colour, "opacity": opacity},
            "tooltip": {"valueFormatter": "%,.0f ms"},
        }
        for name, width, style, opacity in _LINES
    ]
    bars = {
        "type": "bar",
        "name": "turns",
        "yAxisIndex": 1,
        "data": [[milliseconds(row["at_ns"]), row["latency_n"]] for row in records],
        "itemStyle": {"color": QUIET, "opacity": 0.35},
        "barMaxWidth": 14,
        "tooltip": {"valueFormatter": "%,d"},
    }
    return {
        "useUTC": True,
        "animation": False,
        "legend": {"top": 0, "right": 40, "itemWidth": 24},
        "grid": {"left": 8, "right": 24, "top": 44, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis"},
        "xAxis": time_axis(),
        "yAxis": [
            value_axis("ms", **({} if top_ms is None else _scale(top_ms))),
            {"type": "value", "show": False, "min": 0, "max": max(most, 1) * 5},
        ],
        "series": [*lines, bars],
    }


def by_region(records: Records, column: str, unit: str, scale: float, number: str) -> dict[str, Any]:
    """Return one line per region of one column over time.

    Args:
        records: rows of `overview_series`.
        column: which.
        unit: written at the axis, of the scaled values.
        scale: the column's values are multiplied by it.
        number: printf-style form of a value in the tooltip.

    """
    shades = colours([row["region"] for row in records])
    return {
        "useUTC": True,
        "animation": False,
        "legend": {"top": 0, "right": 40, "itemWidth": 18, "icon": "roundRect"},
        "grid": {"left": 8, "right": 24, "top": 44, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": number},
        "xAxis": time_axis(),
        "yAxis": value_axis("", axisLabel={"formatter": f"{{value}} {unit}"}),
        "series": [
            {
                "type": "line",
                "name": region,
                "data": [
                    [milliseconds(row["at_ns"]), None if row[column] is None else row[column] * scale]
                    for row in records
                    if row["region"] == region
                ],
                "showSymbol": True,
                "symbolSize": 5,
                "connectNulls": False,
                "lineStyle": {"width": 2},
                "itemStyle": {"color": shade},
            }
            for region, shade in shades.items()
        ],
    }


def _scale(top: float) -> dict[str, float]:
    """Return an axis from 0 to just above a value, in at most eight steps of one length."""
    step = 250.0
    while step * 8 <= top:
        step *= 2
    return {"max": (top // step + 1) * step, "interval": step}
