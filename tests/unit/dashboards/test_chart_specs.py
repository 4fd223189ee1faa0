from __future__ import annotations

import json
from typing import Any

import pytest

from analytics import ERROR_KINDS
from dashboards import state, words
from dashboards.charts import errors, sender, series, voices, waterfall
from dashboards.charts.parts import PALETTE, colours
from eventlog.schema import TURN_KINDS

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
    axes = [series.latency([slice_of("eu", 0)], "#0", top)["yAxis"][0] for top in (900.0, 1535.0, 2000.0, 3900.0, None)]
    assert [axis.get("max") for axis in axes] == [1000, 1750, 2500, 4000, None]
    # The last step of an axis is no shorter than the others.
    assert [axis.get("interval") for axis in axes] == [250, 250, 500, 500, None]


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
    decided = {"kind": "endpoint_decided", "at_ns": 12 * S + S // 2, "turn_id": 1, "silence_ms": 500.0}
    facts = [decided | {"reason": "silence"}]
    troubles = [packet(11.5, lost=2), packet(12, lost=-1, reordered=1)]
    chart = voices.timeline(10 * S, 18 * S, lanes=lanes, facts=facts, errors=[], packets=troubles, decisions=[])
    by_name = {line["name"]: line for line in chart["series"]}
    assert by_name["user speaks"]["data"] == [[1.0, "user"], [2.0, "user"], [None, "user"]]
    assert by_name["agent speaks"]["data"][1] == [8.0, "agent"]  # still speaking: to the end of what is known
    assert by_name["endpoint decided"]["data"] == [[2.5, "user", "turn 1, after 500 ms of silence, reason: silence"]]
    assert by_name["lost"]["data"] == [[1.5, "edge ↑", 2]]  # what turned up again is no loss to draw
    assert by_name["reordered"]["data"] == [[2.0, "edge ↑", 1]]
    assert [axis["max"] for axis in chart["xAxis"]] == [8, 8]
    assert chart["dataZoom"][0]["xAxisIndex"] == [0, 1]


def test_what_a_living_call_did_since_it_was_asked_for_is_within_the_axis() -> None:
    lanes = [
        {"who": "user", "start_ns": 11 * S, "end_ns": 13 * S, "backchannel": False},
        {"who": "agent", "start_ns": 14 * S + S // 2, "end_ns": None, "backchannel": False},
    ]
    chart = voices.timeline(10 * S, 12 * S, lanes=lanes, facts=[], errors=[], packets=[], decisions=[])
    ends = [line["data"][1][0] for line in chart["series"] if line["type"] == "line" and line["data"]]
    assert ends == [3.0, 4.5]
    assert {axis["max"] for axis in chart["xAxis"]} == {5}


def test_every_kind_of_fact_is_on_the_chart() -> None:
    assert set(TURN_KINDS) == set(voices.MARKS) | voices.INTERVALS
    assert not set(voices.MARKS) & voices.INTERVALS
    facts = [{"kind": kind, "at_ns": S, "turn_id": 1, "silence_ms": None, "reason": None} for kind in voices.MARKS]
    chart = voices.timeline(0, 2 * S, lanes=[], facts=facts, errors=[], packets=[], decisions=[])
    drawn = {line["name"] for line in chart["series"] if line["data"]}
    assert drawn == {words.kind(kind) for kind in voices.MARKS}


def decision(at_s: float, bitrates: tuple[int, int], fec: tuple[bool, bool], **columns: Any) -> dict[str, Any]:
    return {
        "observed_ns": round(at_s * S),
        "lost": 0.25,
        "smoothed_loss": 0.125,
        "rtt_ms": 240.0,
        "best_rtt_ms": None,
        "queued": True,
        "bitrate_before_bps": bitrates[0],
        "bitrate_bps": bitrates[1],
        "fec_before": fec[0],
        "fec": fec[1],
        "expected_loss_before_percent": 5,
        "expected_loss_percent": 5,
        "ptime_before_ms": 20,
        "ptime_ms": 20,
    } | columns


def test_the_senders_decisions_lie_on_the_same_time_axis() -> None:
    decisions = [
        decision(12, (32_000, 28_800), (True, True), expected_loss_percent=20),
        decision(16, (28_800, 28_800), (True, False), ptime_ms=40),
    ]
    chart = voices.timeline(10 * S, 20 * S, lanes=[], facts=[], errors=[], packets=[], decisions=decisions)
    by_name = {line["name"]: line for line in chart["series"]}
    rate, fec, marks = (by_name[name] for name in ("bit rate", "with redundancy (FEC)", "sending changed"))
    assert rate["data"] == [[0, 32.0], [2.0, 32.0], [2.0, 28.8], [6.0, 28.8], [6.0, 28.8], [10.0, 28.8]]
    assert fec["data"] == [[0, 32.0], [2.0, 32.0], [None, 32.0], [2.0, 28.8], [6.0, 28.8], [None, 28.8]]
    why = "client reported 25.0 % lost (12.5 % smoothed), round trip 240 ms (best —), a queue stood"
    assert marks["data"] == [
        [2.0, 28.8, "bit rate 32.0 → 28.8 kbit/s, redundancy for 5 % → 20 % loss", why],
        [6.0, 28.8, "redundancy off, packets of 20 → 40 ms", why],
    ]
    assert [axis["max"] for axis in chart["xAxis"]] == [10, 10, 10]
    assert {rate["xAxisIndex"], fec["xAxisIndex"], marks["xAxisIndex"]} == {2}
    assert chart["dataZoom"][0]["xAxisIndex"] == [0, 1, 2]
    assert sender.summary(10 * S, 20 * S, decisions) == (
        "Agent's voice: n = 2 changes; bit rate 32.0 → 28.8 kbit/s, lowest 28.8 kbit/s; redundancy (FEC) 60 % of the "
        "time; packets of 20, 40 ms."
    )


def test_without_a_decision_nothing_is_made_up() -> None:
    chart = voices.timeline(0, S, lanes=[], facts=[], errors=[], packets=[], decisions=[])
    assert len(chart["grid"]) == len(chart["xAxis"]) == 2
    assert "changed nothing" in sender.summary(0, S, [])


def test_the_waterfalls_caption_says_how_the_network_is_known_and_where_bars_are_too_long() -> None:
    def fall(response_ms: float | None, uplink_ms: float | None, clock_error_ms: float | None) -> dict[str, Any]:
        heard = None if response_ms is None else response_ms + 60
        known = {"response_ms": response_ms, "listener_ms": heard}
        return known | {"uplink_network_ms": uplink_ms, "clock_error_ms": clock_error_ms}

    estimated = [fall(900.0, 20.0, None), fall(None, None, None)]
    assert waterfall.summary(estimated) == (
        "n = 1 answered turns of 2; the listener's whole is known for 1. Network each way is half of the round trip "
        "(symmetric assumed)."
    )
    said = waterfall.summary([*estimated, fall(800.0, -25.0, 0.5), fall(800.0, 25.0, 12.0)])
    assert "measured for 2 by the client's clock, known to ±12 ms; else half" in said
    assert "For 1 the relay took an earlier end of speech than the client: their bars are longer" in said


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
        voices.timeline(0, S, lanes=[], facts=[], errors=[], packets=[], decisions=[]),
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
