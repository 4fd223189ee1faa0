"""Session: one call, its two voices, its packets and where the time went."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboards import words
from dashboards.charts import sender, voices, waterfall
from dashboards.data import ask, guarded
from dashboards.listing import call_link, listing

_REFRESH_S: Final = 5
_RECENT: Final = 50
Records = Sequence[dict[str, Any]]
_DAY: Final = "now-1d"


def page() -> None:
    """Show the page: the call that the address names, or a list to choose from."""
    st.markdown("## Session")
    named = st.text_input(
        "Call", key="session", bind="query-params", placeholder="id of a call", label_visibility="collapsed"
    )
    if not named:
        guarded(_choose)
        return
    try:
        session = str(uuid.UUID(named.strip()))
    except ValueError:
        st.warning(f"“{named}” is not the id of a call; it is a UUID such as 019cae00-d4dc-7000-8000-0000000003fc.")
        guarded(_choose)
        return
    guarded(lambda: _call(session))


def _choose() -> None:
    calls = ask("sessions", from_=_DAY, limit=_RECENT).records()
    if not calls:
        st.info(
            "No calls in the last 24 hours. Make one, or run `sidetone demo`.",
            icon=":material/call:",
            title="Nothing here yet",
        )
        return
    listing(
        "",
        calls,
        lambda call: {
            "call": call_link(call["session_id"]),
            "began": words.when(call["began_ns"]),
            "region": call["region"],
            "duration": words.duration(call["duration_ms"]),
            "turns": call["turns"],
            "p50": words.ms(call["latency_p50_ms"]),
            "loss": words.percent(call["packet_loss"]),
            "errors": call["errors"],
            "kinds": [words.kind(kind) for kind in call["error_kinds"]],
        },
        caption=f"The last {len(calls)} calls of 24 hours; follow a link. Times in UTC; p50 is the response latency's, "
        "loss is client to edge.",
        nothing="",
        columns={"began": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC")},
    )


def _call(session: str) -> None:
    found = ask("session", session=session).records()
    if not found:
        st.info(
            "The store has heard nothing of this call. If it has just begun, look again in a few seconds.",
            icon=":material/search_off:",
            title="Unknown call",
        )
        st.button("Look again", icon=":material/refresh:")
        return
    ended = found[0]["ended_ns"] is not None

    @st.fragment(run_every=None if ended else _REFRESH_S)
    def body() -> None:
        guarded(lambda: _show(session))

    body()


def _show(session: str) -> None:
    call = ask("session", session=session).records()[0]
    around = {"from_": call["began_ns"] - 1_000_000_000, "to": call["last_ns"] + 60_000_000_000, "session": session}
    errors = ask("turn_errors", **around).records()
    falls = ask("session_waterfall", session=session).records()
    streams = ask("loss_by_stream", **around).records()
    decisions = ask("session_sender", session=session).records()
    _head(call)
    _figures(call, falls, errors, streams)
    with st.container(border=True):
        _timeline(session, call, errors, decisions)
    with st.container(border=True):
        _errors(call, errors)
    with st.container(border=True):
        _waterfall(falls)
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True):
        _legs(around)
    with right, st.container(border=True):
        _levels(call, around)
    _details(session, call, streams, decisions)


def _head(call: dict[str, Any]) -> None:
    if call["ended_ns"] is None:
        end = "in progress, or its end was not recorded"
    else:
        end = f"ended by {call['closed_by'] or 'an unknown side'} ({call['close_reason'] or 'no reason given'})"
    client = call["attributes"].get("client") or call["attributes"].get("user_agent")
    st.caption(
        f"{call['region']} · {words.moment(call['began_ns'])} · {end}"
        + (f" · client {client}" if client else "")
        + (
            f" · first voice {words.ms(call['first_frame_ms'])} after the offer"
            if call["first_frame_ms"] is not None
            else ""
        )
    )


def _figures(call: dict[str, Any], falls: Records, errors: Records, streams: Records) -> None:
    latencies = sorted(row["response_ms"] for row in falls if row["response_ms"] is not None)
    up = [row for row in streams if row["tap"] == "edge_up"]
    lost = sum(row["lost"] for row in up)
    expected = sum(row["packets"] - row["duplicates"] + row["lost"] for row in up)
    until = call["ended_ns"] or call["last_ns"]
    answered = f"n = {len(latencies)} turns"
    charged = [row for row in errors if row["side"] == "agent"]
    figures = (
        (
            "Duration",
            words.duration((until - call["began_ns"]) / 1e6),
            "so far" if call["ended_ns"] is None else "whole",
        ),
        # Of the same answer as what follows: a living call has gone on between two questions.
        ("Turns", words.count(len(falls)), f"{len(latencies)} answered"),
        # As in the overview: an element of the sample, at rank n/2 counted from 0.
        (
            "Response latency p50",
            words.ms(latencies[len(latencies) // 2] if latencies else None),
            answered,
        ),
        ("Response latency worst", words.ms(latencies[-1] if latencies else None), answered),
        (
            "Packet loss",
            words.percent(lost / expected if expected else None),
            f"{words.count(lost)} of {words.count(expected)} ↑",
        ),
        (
            "Turn-taking errors",
            words.count(len(charged)),
            words.rate(len(charged) / len(falls) if falls else None),
        ),
    )
    with st.container(horizontal=True, gap="small", key="figures"):
        for label, value, scope in figures:
            look: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True, "width": "stretch"}
            st.metric(label, value, scope, help=_HELP[label], **look)


_HELP: Final = {
    "Duration": "From the offer to the close, or to the last thing that was seen of the call.",
    "Turns": "What the user says until it is answered, and the answer; backchannels are no turns.",
    "Response latency p50": "From the acoustic end of the user's speech to the agent's first voiced packet.",
    "Response latency worst": "The longest of the same turns.",
    "Packet loss": "↑ client to edge: lost packets of those expected.",
    "Turn-taking errors": "Errors charged to the agent's side, of all kinds. Kinds may overlap.",
}


def _timeline(session: str, call: dict[str, Any], errors: Records, decisions: Records) -> None:
    st.markdown("#### Voices and packets")
    start_ns, end_ns = call["began_ns"], call["ended_ns"] or call["last_ns"]
    packets = ask("session_packets", session=session).records()
    slice_ms = packets[0]["slice_ms"] if packets else 0
    together = f"each mark stands for {slice_ms:,.0f} ms" if slice_ms else "each mark is one packet"
    st.caption(
        f"n = {words.count(sum(row['packets'] for row in packets))} packets at all taps; {together}. ↑ to the agent, "
        "↓ to the caller. Scroll over the chart, or drag its slider, to zoom."
        + words.thinned(call["packets_kept"], call["packets"])
    )
    st.caption(sender.summary(start_ns, end_ns, decisions))
    st.echarts_chart(
        voices.timeline(
            start_ns,
            end_ns,
            lanes=ask("session_lanes", session=session).records(),
            facts=ask("session_turns", session=session).records(),
            errors=errors,
            packets=packets,
            decisions=decisions,
        ),
        height=voices.height(packets, decisions),
        key="timeline",
        alt="Speech of both voices, decisions, packet troubles and the agent's bit rate over the call",
    )


def _waterfall(falls: Records) -> None:
    st.markdown("#### Where the time of each answer went")
    if all(row["response_ms"] is None for row in falls):
        st.caption("No turn of this call has been answered.")
        return
    st.caption(waterfall.summary(falls))
    st.echarts_chart(
        waterfall.bars(falls), height=waterfall.height(falls), key="waterfall", alt="Parts of each turn's latency"
    )


def _errors(call: dict[str, Any], errors: Records) -> None:
    st.markdown("#### Turn-taking errors")
    if not errors:
        st.caption("None found.")
        return
    st.caption(f"n = {len(errors)} of both sides, in order of time; at: seconds since the call began.")
    # A static table, because its cells wrap: evidence that is cut off is none.
    st.table(
        [
            {
                "at": f"{(row['at_ns'] - call['began_ns']) / 1e9:.2f} s",
                "turn": row["turn_id"],
                "kind": words.kind(row["kind"]),
                "side": row["side"],
                "evidence": row["evidence"],
            }
            for row in reversed(errors)
        ],
        hide_index=True,
    )


def _legs(around: dict[str, Any]) -> None:
    listing(
        "Round trips by leg",
        ask("legs", **around).records(),
        lambda row: {
            "leg": words.leg(row["leg"]),
            "method": row["method"],
            "n": row["samples"],
            "min": words.ms(row["rtt_min_ms"]),
            "p50": words.ms(row["rtt_p50_ms"]),
            "p95": words.ms(row["rtt_p95_ms"]),
            "max": words.ms(row["rtt_max_ms"]),
        },
        caption="Client ⇄ edge ⇄ transceiver, as the edge and the transceiver measured it; n round trips each.",
        nothing="None was measured in this call.",
    )


def _levels(call: dict[str, Any], around: dict[str, Any]) -> None:
    st.markdown("#### Heard at the edge")
    sides = ask("silence", **around).records()
    if not any(side["levels"] for side in sides):
        st.caption("No packet at the edge told its audio level (RFC 6464).")
        return
    for side in sides:
        if side["one_way"]:
            since_s = max(0.0, (side["longest_from_ns"] - call["began_ns"]) / 1e9)  # seconds begin before the call does
            st.warning(
                f"The {side['side']} was silent for {words.duration(side['longest_s'] * 1000)} from {since_s:.0f} s on "
                f"({words.level(side['longest_loudest_dbov'])}) while packets came and the other side was heard.",
                icon=":material/mic_off:",
            )
    st.dataframe(
        [
            {
                "side": side["side"],
                "packets": side["packets"],
                "silent": words.percent(side["silent_share"], 0),
                "loudest": words.level(side["loudest_dbov"]),
                "longest silence": words.duration(side["longest_s"] * 1000),
            }
            for side in sides
        ],
        hide_index=True,
    )
    st.caption("From the levels that packets carry in the clear (RFC 6464); silent is -60 dBov or below.")


def _details(session: str, call: dict[str, Any], streams: Records, decisions: Records) -> None:
    with st.expander("Decisions of the sender: how the agent's voice was sent, and why"):
        st.dataframe(
            [
                {
                    "at s": round((row["observed_ns"] - call["began_ns"]) / 1e9, 2),
                    "change": sender.change(row),
                    "because": sender.why(row),
                    "bit rate": words.kilobits(row["bitrate_bps"]),
                    "redundancy": f"for {row['expected_loss_percent']} % loss" if row["fec"] else "off",
                    "packet": words.ms(row["ptime_ms"]),
                }
                for row in decisions
            ],
            hide_index=True,
            key="sender",
        )
    with st.expander("Streams: packets and loss at each tap"):
        st.dataframe(
            [
                {key: row[key] for key in ("tap", "stream", "packets", "lost", "duplicates", "reordered")}
                | {"loss": words.percent(row["loss"])}
                for row in streams
            ],
            hide_index=True,
        )
    with st.expander("Facts of the conversation"):
        facts = ask("session_turns", session=session).records()
        st.dataframe(
            [
                {
                    "at s": round((row["at_ns"] - call["began_ns"]) / 1e9, 3),
                    "turn": row["turn_id"],
                    "kind": words.kind(row["kind"]),
                    "actor": row["actor"],
                    "reason": row["reason"],
                    "detector": row["detector"],
                    "silence ms": row["silence_ms"],
                    "inputs": row["inputs"],
                }
                for row in facts
            ],
            hide_index=True,
        )
    with st.expander("Attributes"):
        st.code(json.dumps(call["attributes"], indent=2, sort_keys=True), language="json")


page()
