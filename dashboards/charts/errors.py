"""Turn-taking errors by kind and region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analytics import ERROR_KINDS
from dashboards import words
from dashboards.charts.parts import colours

Records = Sequence[dict[str, Any]]


def by_kind(regions: Records) -> dict[str, Any]:
    """Return bars of each kind of error, one colour per region; beside each kind its rate over all of them.

    Args:
        regions: rows of `overview`, one per region.

    """
    turns = sum(row["turns"] for row in regions)
    kinds = list(reversed(ERROR_KINDS))
    totals = {kind: sum(row[kind] for row in regions) for kind in kinds}
    shades = colours([row["region"] for row in regions])
    series: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": row["region"],
            "stack": "errors",
            "data": [row[kind] for kind in kinds],
            "barMaxWidth": 18,
            "itemStyle": {"color": shades[row["region"]]},
        }
        for row in regions
    ]
    return {
        "animation": False,
        "legend": {"top": 0, "right": 40, "itemWidth": 18, "icon": "roundRect"},
        "grid": {"left": 8, "right": 24, "top": 36, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "xAxis": {"type": "value", "minInterval": 1, "min": 0},
        "yAxis": {
            "type": "category",
            "data": [f"{words.kind(kind)}  {_per_hundred(totals[kind], turns)}" for kind in kinds],
            "axisTick": {"show": False},
        },
        "series": series,
    }


def _per_hundred(errors: int, turns: int) -> str:
    return f"({errors / turns * 100:.1f})" if turns else f"({words.UNKNOWN})"
