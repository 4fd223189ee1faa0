"""One call on one time axis: two voices, what was decided, the packets under them, and how the agent was sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from dashboards import words
from dashboards.charts import sender
from dashboards.charts.parts import AGENT, BAD, ODD, QUIET, USER, WARN, seconds, value_axis

Records = Sequence[dict[str, Any]]

# Heights in pixels.
_TOP: Final = 44
_LANES_PX: Final = 132
_BETWEEN: Final = 30
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
INTERVALS: Final = frozenset(
    ("user_speech_started", "user_speech_stopped", "agent_audio_started", "agent_audio_stopped", "backchannel")
)
"""Facts of the conversation that the lanes of speech show; `MARKS` has all others."""

MARKS: Final = {
    "user_audible": ("user", "emptyCircle", USER),
    "endpoint_candidate": ("user", "emptyTriangle", USER),
    "endpoint_decided": ("user", "triangle", USER),
    "endpoint_revoked": ("user", "diamond", WARN),
    "user_barged_in": ("user", "arrow", BAD),
    "response_requested": ("agent", "rect", AGENT),
    "tool_started": ("agent", "roundRect", ODD),
    "tool_ended": ("agent", "emptyRoundRect", ODD),
    "model_first_token": ("agent", "emptyCircle", AGENT),
    "model_first_audio": ("agent", "circle", AGENT),
    "agent_audible": ("agent", "emptyTriangle", AGENT),
    "agent_yielded": ("agent", "diamond", WARN),
    "agent_resumed": ("agent", "triangle", ODD),
}
"""Lane, symbol and colour of each kind of fact that is a moment."""

_TROUBLES: Final = (("lost", BAD), ("late", WARN), ("reordered", ODD), ("duplicates", QUIET))


def timeline(
    start_ns: int,
    end_ns: int,
    *,
    lanes: Records,
    facts: Records,
    errors: Records,
    packets: Records,
    decisions: Records,
) -> dict[str, Any]:
    """Return the chart of one call.

    Args:
        start_ns: time 0 of the axis.
        end_ns: what was seen last of the call; the axis ends there, or where a living call is by now.
        lanes: rows of `session_lanes`.
        facts: rows of `session_turns`.
        errors: rows of `turn_errors`.
        packets: rows of `session_packets`.
        decisions: rows of `session_sender`.

    """
    taps = _taps(packets)
    heights = _heights(packets, decisions)
    end_ns = max([end_ns, *(row["end_ns"] or row["start_ns"] for row in lanes), *(row["at_ns"] for row in facts)])
    length_s = max(math.ceil((end_ns - start_ns) / 1e9), 1)
    axes = list(range(len(heights)))
    series = [
        *_speech(start_ns, end_ns, lanes),
        *_marks(start_ns, facts),
        _errors(start_ns, errors),
        *_troubles(start_ns, packets),
        *(sender.series(2, start_ns, end_ns, decisions) if decisions else ()),
    ]
    return {
        "animation": False,
        # A line's own symbol in the legend would be a thin one with a dot.
        "legend": {
            "top": 0,
            "left": 0,
            "right": 40,
            "type": "scroll",
            "itemWidth": 16,
            "itemHeight": 10,
            "data": [
                {"name": one["name"]} | ({"icon": "roundRect"} if one["type"] == "line" else {}) for one in series
            ],
        },
        "grid": [
            {
                "left": 96,
                "right": 20,
                "top": _TOP + sum(heights[:axis]) + axis * _BETWEEN,
                "height": height_px,
                "outerBoundsMode": "none",
            }
            for axis, height_px in enumerate(heights)
        ],
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "tooltip": {"trigger": "item"},
        "xAxis": [
            {"type": "value", "gridIndex": axis, "min": 0, "max": length_s, "axisLabel": {"show": axis == axes[-1]}}
            | (
                {"name": "seconds since the call began", "nameLocation": "middle", "nameGap": 26}
                if axis == axes[-1]
                else {}
            )
            for axis in axes
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
            *(value_axis("kbit/s", gridIndex=axis, splitNumber=2) for axis in axes[2:]),
        ],
        "dataZoom": [
            {"type": "inside", "xAxisIndex": axes, "filterMode": "none"},
            {"type": "slider", "xAxisIndex": axes, "bottom": 4, "height": 18, "filterMode": "none"},
        ],
        "series": series,
    }


def height(packets: Records, decisions: Records) -> int:
    """Return the height in pixels that `timeline` needs."""
    heights = _heights(packets, decisions)
    return _TOP + sum(heights) + (len(heights) - 1) * _BETWEEN + 84


def _taps(packets: Records) -> list[str]:
    return [tap for tap in _TAPS if tap == "playout" or any(row["tap"] == tap for row in packets)]


def _heights(packets: Records, decisions: Records) -> list[int]:
    return [_LANES_PX, len(_taps(packets)) * _TAP_PX, *([sender.HEIGHT_PX] if decisions else [])]


def _speech(start_ns: int, end_ns: int, lanes: Records) -> list[dict[str, Any]]:
    # A thick line between two points is the only bar between two times that needs no callback; a null breaks it.
    def lane(name: str, who: str, colour: str, rows: Records, opacity: float) -> dict[str, Any]:
        data: list[list[Any]] = []
        for row in rows:
            data += [
                [seconds(start_ns, row["start_ns"]), who],
                [seconds(start_ns, row["end_ns"] or end_ns), who],
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
                [seconds(start_ns, row["at_ns"]), lane, _circumstances(row)] for row in facts if row["kind"] == kind
            ],
            "symbol": symbol,
            "symbolSize": 9,
            "symbolOffset": [0, 15 if lane == "user" else -15],
            "itemStyle": {"color": colour},
            "tooltip": {"formatter": "{a}<br>{@[2]}, at {@[0]} s"},
        }
        for kind, (lane, symbol, colour) in MARKS.items()
        if any(row["kind"] == kind for row in facts)
    ]


def _circumstances(fact: dict[str, Any]) -> str:
    silence = "" if fact["silence_ms"] is None else f"after {words.ms(fact['silence_ms'])} of silence"
    reason = "" if fact["reason"] is None else f"reason: {words.kind(fact['reason'])}"
    return ", ".join(part for part in (f"turn {fact['turn_id']}", silence, reason) if part)


def _errors(start_ns: int, errors: Records) -> dict[str, Any]:
    return {
        "type": "scatter",
        "name": "turn-taking error",
        "data": [
            [seconds(start_ns, row["at_ns"]), "errors", words.kind(row["kind"]), row["evidence"]] for row in errors
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
                [seconds(start_ns, row["at_ns"]), _TAP_NAMES[row["tap"]], row[trouble]]
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
