"""Where the time of each answer went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dashboards import words

Records = Sequence[dict[str, Any]]

PARTS: Final = (
    ("uplink_network_ms", "uplink network", "#0ea5e9"),
    ("uplink_jitter_buffer_ms", "uplink jitter buffer", "#38bdf8"),
    ("vad_hangover_ms", "VAD hangover", "#f59e0b"),
    ("endpoint_wait_ms", "endpoint wait", "#fbbf24"),
    ("request_ms", "request", "#f43f5e"),
    ("model_first_audio_ms", "model first audio", "#8b5cf6"),
    ("pacing_ms", "pacing to first packet", "#a78bfa"),
    ("unmeasured_ms", "not measured", None),
    ("downlink_network_ms", "downlink network", "#14b8a6"),
    ("playout_ms", "playout", "#5eead4"),
)


def bars(records: Records) -> dict[str, Any]:
    """Return one stacked bar per answered turn; what was not measured is a gap with a broken outline.

    Args:
        records: rows of `session_waterfall`.

    """
    answered = [row for row in reversed(records) if row["response_ms"] is not None]
    return {
        "animation": False,
        "legend": {"top": 0, "left": 0, "right": 40, "type": "scroll", "itemWidth": 14, "itemHeight": 10},
        "grid": {"left": 8, "right": 24, "top": 40, "bottom": 28, "containLabel": True},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "valueFormatter": "%,.1f ms"},
        "xAxis": {"type": "value", "name": "ms", "nameLocation": "middle", "nameGap": 24, "min": 0},
        "yAxis": {
            "type": "category",
            "data": [f"turn {row['turn_id']}" for row in answered],
            "axisTick": {"show": False},
        },
        "series": [
            {
                "type": "bar",
                "name": name,
                "stack": "whole",
                "data": [_part(row[column]) for row in answered],
                "barMaxWidth": 20,
                "itemStyle": {"color": colour}
                if colour
                else {"color": "transparent", "borderColor": "#94a3b8", "borderType": "dashed", "borderWidth": 1},
            }
            for column, name, colour in PARTS
            if any(_part(row[column]) for row in answered)
        ],
    }


def summary(records: Records) -> str:
    """Return the caption of `bars`: how many turns they are of, and how the network's part is known."""
    answered = [row for row in records if row["response_ms"] is not None]
    heard = sum(row["listener_ms"] is not None for row in answered)
    clock_errors = [row["clock_error_ms"] for row in answered if row["clock_error_ms"] is not None]
    measured = (
        f"measured for {len(clock_errors)} by the client's clock, known to ±{words.ms(max(clock_errors))}; else "
        if clock_errors
        else ""
    )
    early = sum((row["uplink_network_ms"] or 0) < 0 for row in answered)
    said = (
        f"n = {len(answered)} answered turns of {len(records)}; the listener's whole is known for {heard}. Network "
        f"each way is {measured}half of the round trip (symmetric assumed)."
    )
    if early:
        said += (
            f" For {early} the relay took an earlier end of speech than the client: their bars are longer than the "
            "listener's whole."
        )
    return said


def _part(value_ms: float | None) -> float | None:
    # To the microsecond, so that what is left over by floating-point sums is no part.
    return None if value_ms is None else max(round(value_ms, 3), 0.0)


def height(records: Records) -> int:
    """Return the height in pixels that `bars` needs."""
    return 110 + 30 * max(1, sum(row["response_ms"] is not None for row in records))
