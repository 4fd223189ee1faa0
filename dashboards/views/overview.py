"""Overview: all calls of a window, by region and over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboards import words
from dashboards.charts import errors, series
from dashboards.charts.parts import colours
from dashboards.data import ask, guarded
from dashboards.listing import call_link, listing
from dashboards.state import DEFAULT_RANGE, RANGES, Window, window

_REFRESH_S: Final = 10
_RECENT: Final = 12
Records = Sequence[dict[str, Any]]


def page() -> None:
    """Show the page."""
    asked = st.query_params
    fixed = bool(asked.get("from") and asked.get("to"))
    top = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    with top:
        st.markdown("## Overview")
        if fixed:
            # The ranges end now: none of them is what is shown.
            span = st.segmented_control("Window", list(RANGES), default=None, key="leave", on_change=_leave)
        else:
            span = st.segmented_control(
                "Window", list(RANGES), default=DEFAULT_RANGE, required=True, key="range", bind="query-params"
            )
        if fixed:
            st.toggle(
                "Live", value=False, key="still", help="A window fixed by the address does not move", disabled=True
            )
            live = False
        else:
            live = st.toggle("Live", value=True, key="live", bind="query-params", help=f"Refresh every {_REFRESH_S} s")

    @st.fragment(run_every=_REFRESH_S if live else None)
    def body() -> None:
        guarded(lambda: _show(str(span or DEFAULT_RANGE)))

    body()


def _leave() -> None:
    """Go from the window that the address fixes to the range that was chosen."""
    chosen = st.session_state.get("leave")
    for name in ("from", "to"):
        st.query_params.pop(name, None)
    if chosen:
        st.session_state["range"] = st.query_params["range"] = chosen


def _show(span: str) -> None:
    try:
        shown = window(span, st.query_params.get("from"), st.query_params.get("to"))
    except ValueError as error:
        st.error(f"The address names no window: {error}. Take `from` and `to` out of it, or use ISO 8601 times.")
        return
    everything = ask("overview", from_=shown.from_ns, to=shown.to_ns, total=True).records()
    chosen = _regions([row["region"] for row in everything[1:]])
    rows = everything
    if chosen:
        rows = ask("overview", from_=shown.from_ns, to=shown.to_ns, region=chosen, total=True).records()
    total, *regions = rows or [{}]
    st.caption(
        f"{words.moment(shown.from_ns)} to {words.moment(shown.to_ns)}"
        + (f" · {', '.join(chosen)}" if chosen else " · all regions")
        + (" · live" if shown.live else " · fixed by the address")
        + words.thinned(total.get("uplink_kept"), total.get("uplink_packets"))
    )
    if not regions:
        _empty(shown)
        return
    _figures(total)
    over_time = {"from_": shown.from_ns, "to": shown.to_ns, "region": chosen, "slice_s": shown.slice_s}
    slices = ask("overview_series", **over_time).records()
    _latency(regions, slices)
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True):
        st.markdown("#### Packet loss over time")
        st.caption("Client to edge, by region. Lost ÷ expected; a gap means no packets.")
        st.echarts_chart(
            series.by_region(slices, "packet_loss", "%", 100, "%.2f %%"),
            height=240,
            key="loss-over-time",
            alt="Packet loss over time by region",
        )
    with right, st.container(border=True):
        st.markdown("#### Jitter over time")
        st.caption("95th percentile of |D|, the change in transit time (RFC 3550), client to edge, by region.")
        st.echarts_chart(
            series.by_region(slices, "jitter_p95_ms", "ms", 1, "%.1f ms"),
            height=240,
            key="jitter-over-time",
            alt="Jitter over time by region",
        )
    left, right = st.columns((2, 3), gap="medium")
    with left, st.container(border=True):
        st.markdown("#### Turn-taking errors by kind")
        st.caption(f"Count, and in brackets the rate per 100 turns; n = {words.count(total['turns'])} turns.")
        st.echarts_chart(errors.by_kind(regions), height=330, key="errors-by-kind", alt="Errors by kind and region")
    with right, st.container(border=True):
        _recent(shown, chosen)
    _table(regions)
    left, right = st.columns((3, 2), gap="medium")
    with left, st.container(border=True):
        _legs(shown, chosen)
    with right, st.container(border=True):
        _silence(shown, chosen)


def _regions(known: list[str]) -> list[str]:
    named = [region for region in str(st.query_params.get("region", "")).split(",") if region]
    options = sorted({*known, *named})
    if len(options) < 2:  # noqa: PLR2004 - with one region there is nothing to choose
        return named
    chosen = st.pills(
        "Regions", options, selection_mode="multi", default=named, key="regions", label_visibility="collapsed"
    )
    if chosen != named:
        if chosen:
            st.query_params["region"] = ",".join(chosen)
        else:
            st.query_params.pop("region", None)
    return list(chosen)


def _empty(shown: Window) -> None:
    st.info(
        "No calls, turns or packets in this window. "
        + ("Make a call, or run `sidetone demo`; this page fills by itself." if shown.live else "Choose another one."),
        icon=":material/call:",
        title="Nothing here yet",
    )


def _figures(total: dict[str, Any]) -> None:
    n = words.count(total["latency_n"])
    expected = total["uplink_packets"] - total["uplink_duplicates"] + total["uplink_lost"]
    figures = (
        ("Calls", words.count(total["calls"]), "offered in the window"),
        ("Turns", words.count(total["turns"]), f"{words.percent(total['latency_coverage'], 0)} answered"),
        ("Response latency p50", words.ms(total["latency_p50_ms"]), f"n = {n} turns"),
        (
            "Response latency p95",
            words.ms(total["latency_p95_ms"]),
            f"p99 {words.ms(total['latency_p99_ms'])}" + (", n < 100" if total["latency_p99_low_n"] else ""),
        ),
        (
            "Packet loss",
            words.percent(total["packet_loss"]),
            f"{words.count(total['uplink_lost'])} of {words.count(expected)} ↑",
        ),
        (
            "Turn-taking errors",
            words.count(total["errors"]),
            words.rate(total["errors_per_turn"]),
        ),
    )
    with st.container(horizontal=True, gap="small", key="figures"):
        for label, value, scope in figures:
            look: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True, "width": "stretch"}
            st.metric(label, value, scope, help=_HELP[label], **look)


_HELP: Final = {
    "Calls": "Calls offered in the window.",
    "Turns": "User turns that began in the window, and how many of them have a response latency.",
    "Response latency p50": "From the acoustic end of the user's speech to the agent's first voiced packet.",
    "Response latency p95": "95th percentile of the same turns. p99 is marked where fewer than 100 turns support it.",
    "Packet loss": "↑ client to edge: lost packets of those expected.",
    "Turn-taking errors": "Errors charged to the agent's side, of all kinds. Kinds may overlap.",
}


def _latency(regions: Records, rows: Records) -> None:
    st.markdown("#### Response latency over time")
    shades = colours([row["region"] for row in regions])
    top = max((row["latency_p95_ms"] for row in rows if row["latency_p95_ms"] is not None), default=None)
    for start in range(0, len(regions), 3):
        for column, region in zip(st.columns(3, gap="medium"), regions[start : start + 3], strict=False):
            name = region["region"]
            with column, st.container(border=True):
                st.markdown(f"**{name}**")
                st.caption(
                    f"p50 {words.ms(region['latency_p50_ms'])} · p95 {words.ms(region['latency_p95_ms'])} · "
                    f"n = {words.count(region['latency_n'])} of {words.count(region['turns'])} turns"
                )
                st.echarts_chart(
                    series.latency([row for row in rows if row["region"] == name], shades[name], top),
                    height=230,
                    key=f"latency-{name}",
                    alt=f"Response latency over time, {name}",
                )


def _recent(shown: Window, chosen: list[str]) -> None:
    calls = ask("sessions", from_=shown.from_ns, to=shown.to_ns, region=chosen, errors=True, limit=_RECENT).records()
    listing(
        "Calls with errors, newest first",
        calls,
        lambda call: {
            "call": call_link(call["session_id"]),
            "began": words.when(call["began_ns"]),
            "region": call["region"],
            "p50 ms": call["latency_p50_ms"],
            "loss %": None if call["packet_loss"] is None else call["packet_loss"] * 100,
            "errors": call["errors"],
            # Last, because it is as wide as there are kinds.
            "kinds": [words.kind(kind) for kind in call["error_kinds"]],
        },
        caption=f"The last {len(calls)}; follow a link to see the call. Times in UTC; p50 is the response latency's, "
        "loss is client to edge.",
        nothing="No call of this window has a turn-taking error.",
        columns={
            "began": st.column_config.DatetimeColumn(format="HH:mm:ss", timezone="UTC", width="small"),
            "errors": st.column_config.NumberColumn(width="small"),
            "p50 ms": st.column_config.NumberColumn(format="%.0f", width="small"),
            "loss %": st.column_config.NumberColumn(format="%.2f", width="small"),
        },
    )


def _table(regions: Records) -> None:
    with st.container(border=True):
        st.markdown("#### By region")
        st.dataframe(
            [
                {
                    "region": row["region"],
                    "calls": row["calls"],
                    "turns": row["turns"],
                    "n": row["latency_n"],
                    "coverage": words.percent(row["latency_coverage"], 0),
                    "p50": words.ms(row["latency_p50_ms"]),
                    "p90": words.ms(row["latency_p90_ms"]),
                    "p95": words.ms(row["latency_p95_ms"]),
                    "p99": words.ms(row["latency_p99_ms"]) + (" *" if row["latency_p99_low_n"] else ""),
                    "loss ↑": words.percent(row["packet_loss"]),
                    "loss ↓": words.percent(row["downlink_loss"]),
                    "jitter mean": words.ms(row["jitter_mean_ms"]),
                    "jitter p95": words.ms(row["jitter_p95_ms"]),
                    "errors": row["errors"],
                    "per 100 turns": None if row["errors_per_turn"] is None else row["errors_per_turn"] * 100,
                }
                for row in regions
            ],
            hide_index=True,
            column_config={"per 100 turns": st.column_config.NumberColumn(format="%.1f")},
        )
        st.caption(
            "Latency p50 to p99 over n answered turns, at the relay; * fewer than 100 turns behind p99. Loss ↑ "
            "client to edge, ↓ as clients report it. Jitter is |D| at the edge."
        )


def _legs(shown: Window, chosen: list[str]) -> None:
    legs = ask("legs", from_=shown.from_ns, to=shown.to_ns, region=chosen).records()
    listing(
        "Round trips by leg",
        sorted(legs, key=lambda row: (row["region"], row["leg"], row["method"])),
        lambda row: {
            "region": row["region"],
            "leg": words.leg(row["leg"]),
            "method": row["method"],
            "to": row["remote_region"] or words.UNKNOWN,
            "n": row["samples"],
            "calls": row["calls"],
            "p50": words.ms(row["rtt_p50_ms"]),
            "p95": words.ms(row["rtt_p95_ms"]),
            "max": words.ms(row["rtt_max_ms"]),
        },
        caption="Client ⇄ edge ⇄ transceiver, as the edge and the transceiver measured it; n round trips each. Probes "
        "belong to no call.",
        nothing="No round trip was measured in this window.",
    )


def _silence(shown: Window, chosen: list[str]) -> None:
    sides = ask("silence", from_=shown.from_ns, to=shown.to_ns, region=chosen, one_way=True, limit=_RECENT).records()
    listing(
        "One side silent",
        sides,
        lambda side: {
            "call": call_link(side["session_id"]),
            "region": side["region"],
            "side": side["side"],
            "silent for": words.duration(side["longest_s"] * 1000),
            "loudest": words.level(side["longest_loudest_dbov"]),
            "silent packets": words.percent(side["silent_share"], 0),
        },
        caption="20 s or more without a sound while packets came and the other side was heard; digital: -127 dBov.",
        nothing="No call with 20 s of silence on one side while the other was heard.",
    )


page()
