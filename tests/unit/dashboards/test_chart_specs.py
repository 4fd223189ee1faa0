from __future__ import annotations

import json
from typing import Any

import pytest

from analytics import ERROR_KINDS
from dashboards import state, words
from dashboards.charts import errors, series, voices, waterfall
from dashboards.charts.parts import PALETTE, colours

S = 1_000_000_000


def slice_of(region: str, at_s: int, **columns: Any) -> dict[str, Any]:
    empty = {f"latency_p{p}_ms": None for p in (50, 90, 95, 99)}
    return {"region": region, "at_ns": at_s * S, "latency_n": 0, "packet_loss": None} | empty | columns


def test_an_unknown_slice_is_a_gap_and_not_zero() -> None:
    rows = [slice_of("eu", 0, latency_p50_ms=900.0, latency_n=3), slice_of("eu", 60)]
    chart = series.latency(rows, "#000000", 900.0)
    p50, *_, turns = chart["series"]
    assert p50["data"] == [[0, 900.0], [60_000, None]]
    assert p50["connectNulls"] is False
    assert turns["data"] == [[0, 3], [60_000, 0]]
    loss = series.by_region([slice_of("eu", 0, packet_loss=0.02), slice_of("us", 0)], "packet_loss", "%", 100, "%.2f")
    assert {line["name"]: line["data"] for line in loss["series"]} == {"eu": [[0, 2.0]], "us": [[0, None]]}


def test_charts_side_by_side_have_one_scale() -> None:
    tops = [series.latency([slice_of("eu", 0)], "#0", top)["yAxis"][0]["max"] for top in (900.0, 3900.0, None)]
    assert tops == [1000, 4000, None]


def test_a_region_has_one_colour_everywhere() -> None:
    assert colours(["us", "eu", "us"]) == {"eu": PALETTE[0], "us": PALETTE[1]}


def test_error_kinds_carry_their_rate() -> None:
    row = dict.fromkeys(ERROR_KINDS, 0) | {"region": "eu", "turns": 200, "talk_over": 3}
    axis = errors.by_kind([row])["yAxis"]["data"]
    assert "talk over  (1.5)" in axis
    assert all("(—)" in label for label in errors.by_kind([row | {"turns": 0}])["yAxis"]["data"])


def packet(at_s: float, tap: str = "edge_up", **counts: int) -> dict[str, Any]:
    return {"at_ns": round(at_s * S), "tap": tap, "lost": 0, "late": 0, "reordered": 0, "duplicates": 0} | counts


def test_voices_and_packets_share_one_time_axis() -> None:
    lanes = [
        {"who": "user", "start_ns": 11 * S, "end_ns": 12 * S, "backchannel": False},
        {"who": "agent", "start_ns": 13 * S, "end_ns": None, "backchannel": False},
    ]
    facts = [{"kind": "endpoint_decided", "at_ns": 12 * S + S // 2, "turn_id": 1}]
    troubles = [packet(11.5, lost=2), packet(12, lost=-1, reordered=1)]
    chart = voices.timeline(10 * S, 18 * S, lanes, facts, [], troubles)
    by_name = {line["name"]: line for line in chart["series"]}
    assert by_name["user speaks"]["data"] == [[1.0, "user"], [2.0, "user"], [None, "user"]]
    assert by_name["agent speaks"]["data"][1] == [8.0, "agent"]  # still speaking: to the end of what is known
    assert by_name["endpoint decided"]["data"] == [[2.5, "user", "turn 1"]]
    assert by_name["lost"]["data"] == [[1.5, "edge ↑", 2]]  # what turned up again is no loss to draw
    assert by_name["reordered"]["data"] == [[2.0, "edge ↑", 1]]
    assert [axis["max"] for axis in chart["xAxis"]] == [8, 8]
    assert chart["dataZoom"][0]["xAxisIndex"] == [0, 1]


def test_what_was_not_measured_is_a_gap_in_the_waterfall() -> None:
    parts: dict[str, float | None] = {column: None for column, *_ in waterfall.PARTS}
    row = parts | {"turn_id": 1, "response_ms": 400.0, "unmeasured_ms": 300.0, "request_ms": 100.0}
    chart = waterfall.bars([row, row | {"turn_id": 2, "response_ms": None}])
    assert chart["yAxis"]["data"] == ["turn 1"]
    assert {bar["name"]: bar["data"] for bar in chart["series"]} == {"request": [100.0], "not measured": [300.0]}
    assert chart["series"][-1]["itemStyle"]["color"] == "transparent"


def test_specs_are_json() -> None:
    charts = [
        series.latency([slice_of("eu", 0)], "#0", None),
        voices.timeline(0, S, [], [], [], []),
        waterfall.bars([]),
        errors.by_kind([]),
    ]
    for chart in charts:
        assert json.loads(json.dumps(chart, allow_nan=False))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (words.ms(1107.87), "1,108 ms"),
        (words.ms(4.96), "5.0 ms"),
        (words.ms(None), "—"),
        (words.percent(0.01676), "1.68 %"),
        (words.percent(None), "—"),
        (words.rate(0.2649), "26.5 per 100 turns"),
        (words.count(36561), "36,561"),
        (words.duration(42_727.0), "42.7 s"),
        (words.duration(185_000.0), "3 min 05 s"),
        (words.moment(None), "—"),
        (words.moment(1_772_445_600 * S), "2026-03-02 10:00:00 UTC"),
    ],
)
def test_numbers_as_people_read_them(said: str, meant: str) -> None:
    assert said == meant


def test_a_window_ends_on_a_step_so_that_answers_are_shared() -> None:
    first, second = (state.relative("15m", at * S) for at in (101, 104))
    assert first == second
    assert (first.to_ns - first.from_ns, first.live) == (900 * S, True)
    assert state.relative("nonsense", 0) == state.relative("1h", 0)


def test_a_fixed_window_is_not_live() -> None:
    fixed = state.window("1h", "2026-03-02T10:00:00", "2026-03-02T10:05:00")
    assert (fixed.to_ns - fixed.from_ns, fixed.live) == (300 * S, False)
    with pytest.raises(ValueError, match="must lie before"):
        state.window("1h", "2026-03-02T10:05:00", "2026-03-02T10:00:00")
