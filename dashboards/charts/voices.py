"""One call on one time axis: two voices, what was decided, and the packets under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from dashboards import words
from dashboards.charts.parts import AGENT, BAD, ODD, QUIET, USER, WARN

Records = Sequence[dict[str, Any]]

# Heights in pixels.
_TOP: Final = 44
_LANES_PX: Final = 132
_BETWEEN: Final = 24
_TAP_PX: Final = 26
_LANES: Final = ("agent", "user", "errors")
_TAPS: Final = ("playout", "edge_down", "transceiver_out", "transceiver_in", "edge_up")
_TAP_NAMES: Final = {
    "edge_up": "edge ↑",
    "transceiver_in": "transceiver ↑",
    "playout": "playout ↑",
    "transceiver_out": "transceiver ↓",
    "edge_down": "edge ↓",
}
_MARKS: Final = {
    "endpoint_decided": ("user", "triangle", USER),
    "endpoint_revoked": ("user", "diamond", WARN),
    "user_barged_in": ("user", "arrow", BAD),
    "response_requested": ("agent", "rect", AGENT),
    "model_first_audio": ("agent", "circle", AGENT),
    "agent_yielded": ("agent", "diamond", WARN),
}
_TROUBLES: Final = (("lost", BAD), ("late", WARN), ("reordered", ODD), ("duplicates", QUIET))


def timeline(
    start_ns: int, end_ns: int, lanes: Records, facts: Records, errors: Records, packets: Records
) -> dict[str, Any]:
    """Return the chart of one call.

    Args:
        start_ns: time 0 of the axis.
        end_ns: where intervals end that have not ended.
        lanes: rows of `session_lanes`.
        facts: rows of `session_turns`.
        errors: rows of `turn_errors`.
        packets: rows of `session_packets`.

    """
    taps = [tap for tap in _TAPS if tap == "playout" or any(row["tap"] == tap for row in packets)]
    length_s = max(math.ceil((end_ns - start_ns) / 1e9), 1)
    below = _TOP + _LANES_PX + _BETWEEN
    return {
        "animation": False,
        "legend": {"top": 0, "left": 0, "right": 40, "type": "scroll", "itemWidth": 16, "itemHeight": 10},
        "grid": [
            {"left": 96, "right": 20, "top": _TOP, "height": _LANES_PX, "outerBoundsMode": "none"},
            {"left": 96, "right": 20, "top": below, "height": len(taps) * _TAP_PX, "outerBoundsMode": "none"},
        ],
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "tooltip": {"trigger": "item"},
        "xAxis": [
            {"type": "value", "gridIndex": 0, "min": 0, "max": length_s, "axisLabel": {"show": False}},
            {
                "type": "value",
                "gridIndex": 1,
                "min": 0,
                "max": length_s,
                "name": "seconds since the call began",
                "nameLocation": "middle",
                "nameGap": 26,
            },
        ],
        "yAxis": [
            {"type": "category", "gridIndex": 0, "data": list(_LANES), "axisTick": {"show": False}},
            {
                "type": "category",
                "gridIndex": 1,
                "data": [_TAP_NAMES[tap] for tap in taps],
                "axisTick": {"show": False},
                "splitLine": {"show": True},
            },
        ],
        "dataZoom": [
            {"type": "inside", "xAxisIndex": [0, 1], "filterMode": "none"},
            {"type": "slider", "xAxisIndex": [0, 1], "bottom": 4, "height": 18, "filterMode": "none"},
        ],
        "series": [
            *_speech(start_ns, end_ns, lanes),
            *_marks(start_ns, facts),
            _errors(start_ns, errors),
            *_troubles(start_ns, packets),
        ],
    }


def height(packets: Records) -> int:
    """Return the height in pixels that `timeline` needs."""
    taps = [tap for tap in _TAPS if tap == "playout" or any(row["tap"] == tap for row in packets)]
    return _TOP + _LANES_PX + _BETWEEN + len(taps) * _TAP_PX + 84


def _seconds(start_ns: int, at_ns: int) -> float:
    return round((at_ns - start_ns) / 1e9, 4)


def _speech(start_ns: int, end_ns: int, lanes: Records) -> list[dict[str, Any]]:
    # A thick line between two points is the only bar between two times that needs no callback; a null breaks it.
    def lane(name: str, who: str, colour: str, rows: Records, opacity: float) -> dict[str, Any]:
        data: list[list[Any]] = []
        for row in rows:
            data += [
                [_seconds(start_ns, row["start_ns"]), who],
                [_seconds(start_ns, row["end_ns"] or end_ns), who],
                [None, who],
            ]
        return {
            "type": "line",
            "name": name,
            "data": data,
            "showSymbol": False,
            "symbolSize": 1,
            "lineStyle": {"width": 22, "color": colour, "cap": "butt", "opacity": opacity},
            "itemStyle": {"color": colour},
            "silent": True,
        }

    user = [row for row in lanes if row["who"] == "user" and not row["backchannel"]]
    agent = [row for row in lanes if row["who"] == "agent"]
    return [
        lane("user speaks", "user", USER, user, 0.75),
        lane("agent speaks", "agent", AGENT, agent, 0.75),
        lane("backchannel", "user", QUIET, [row for row in lanes if row["backchannel"]], 0.75),
    ]


def _marks(start_ns: int, facts: Records) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "name": words.kind(kind),
            "data": [
                [_seconds(start_ns, row["at_ns"]), lane, f"turn {row['turn_id']}"]
                for row in facts
                if row["kind"] == kind
            ],
            "symbol": symbol,
            "symbolSize": 9,
            "symbolOffset": [0, 15 if lane == "user" else -15],
            "itemStyle": {"color": colour},
            "tooltip": {"formatter": "{a}<br>{@[2]}, at {@[0]} s"},
        }
        for kind, (lane, symbol, colour) in _MARKS.items()
        if any(row["kind"] == kind for row in facts)
    ]


def _errors(start_ns: int, errors: Records) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": "turn-taking error",
        "data": [
            [_seconds(start_ns, row["at_ns"]), "errors", words.kind(row["kind"]), row["evidence"]] for row in errors
        ],
        "symbol": "pin",
        "symbolSize": 26,
        "symbolOffset": [0, 6],
        "itemStyle": {"color": BAD},
        "tooltip": {"formatter": "<b>{@[2]}</b> at {@[0]} s<br>{@[3]}"},
    }


def _troubles(start_ns: int, packets: Records) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "name": trouble,
            "xAxisIndex": 1,
            "yAxisIndex": 1,
            "data": [
                [_seconds(start_ns, row["at_ns"]), _TAP_NAMES[row["tap"]], row[trouble]]
                for row in packets
                if row[trouble] > 0 and row["tap"] in _TAP_NAMES
            ],
            "symbol": "rect",
            "symbolSize": [3, 16],
            "itemStyle": {"color": colour, "opacity": 0.85},
            "tooltip": {"formatter": "{@[2]} {a} at {@[1]}, {@[0]} s"},
        }
        for trouble, colour in _TROUBLES
    ]
