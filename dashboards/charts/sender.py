"""How the agent's voice was sent over one call: bit rate, redundancy, and each decision with what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from dashboards import words
from dashboards.charts.parts import AGENT, seconds

Records = Sequence[dict[str, Any]]

HEIGHT_PX: Final = 84
_KILO: Final = 1000


def series(axis: int, start_ns: int, end_ns: int, decisions: Records) -> list[dict[str, Any]]:
    """Return the bit rate as a step line, filled while packets carry redundancy, and a mark for each decision.

    Args:
        axis: which of the chart's axes.
        start_ns: time 0 of the axis.
        end_ns: where the last decision's settings end.
        decisions: rows of `session_sender`.

    """
    on = {"type": "line", "xAxisIndex": axis, "yAxisIndex": axis, "showSymbol": False, "silent": True}
    spans = list(_spans(start_ns, end_ns, decisions))
    return [
        on
        | {
            "name": "bit rate",
            "data": [point for begin, end, rate, _ in spans for point in ([begin, rate], [end, rate])],
            "lineStyle": {"width": 2, "color": AGENT},
            "itemStyle": {"color": AGENT},
        },
        on
        | {
            "name": "with redundancy (FEC)",
            "data": [
                point for begin, end, rate, fec in spans if fec for point in ([begin, rate], [end, rate], [None, rate])
            ],
            "lineStyle": {"width": 0},
            "areaStyle": {"color": AGENT, "opacity": 0.25},
            "itemStyle": {"color": AGENT, "opacity": 0.45},
        },
        {
            "type": "scatter",
            "name": "sending changed",
            "xAxisIndex": axis,
            "yAxisIndex": axis,
            "data": [
                [seconds(start_ns, row["observed_ns"]), row["bitrate_bps"] / _KILO, change(row), why(row)]
                for row in decisions
            ],
            "symbolSize": 8,
            "itemStyle": {"color": AGENT},
            "tooltip": {"formatter": "<b>{@[2]}</b> at {@[0]} s<br>{@[3]}"},
        },
    ]


def _spans(start_ns: int, end_ns: int, decisions: Records) -> Iterator[tuple[float, float, float, bool]]:
    """Yield from when to when (s) the voice was sent at which kbit/s, and whether with redundancy."""
    begin = 0.0
    for row in decisions:
        at = seconds(start_ns, row["observed_ns"])
        yield begin, at, row["bitrate_before_bps"] / _KILO, bool(row["fec_before"])
        begin = at
    if decisions:
        last = decisions[-1]
        yield begin, max(begin, seconds(start_ns, end_ns)), last["bitrate_bps"] / _KILO, bool(last["fec"])


def change(row: dict[str, Any]) -> str:
    """Return what one decision changed, `bit rate 32.0 → 28.8 kbit/s, redundancy for 5 % → 20 % loss`."""
    parts = []
    if row["bitrate_bps"] != row["bitrate_before_bps"]:
        parts.append(f"bit rate {row['bitrate_before_bps'] / _KILO:.1f} → {words.kilobits(row['bitrate_bps'])}")
    before, after = row["expected_loss_before_percent"], row["expected_loss_percent"]
    if bool(row["fec"]) != bool(row["fec_before"]):
        parts.append(f"redundancy on, for {after} % loss" if row["fec"] else "redundancy off")
    elif before != after:
        parts.append(f"redundancy for {before} % → {after} % loss")
    if row["ptime_ms"] != row["ptime_before_ms"]:
        parts.append(f"packets of {row['ptime_before_ms']} → {row['ptime_ms']} ms")
    return ", ".join(parts)


def why(row: dict[str, Any]) -> str:
    """Return the receiver report that one decision rests on, in words."""
    trip = f"round trip {words.ms(row['rtt_ms'])} (best {words.ms(row['best_rtt_ms'])})"
    lost = f"{words.percent(row['lost'], 1)} lost ({words.percent(row['smoothed_loss'], 1)} smoothed)"
    return f"client reported {lost}, {trip}" + (", a queue stood" if row["queued"] else "")


def summary(start_ns: int, end_ns: int, decisions: Records) -> str:
    """Return the decisions in one line: how many, the bit rate's way, how long with redundancy, packet lengths."""
    if not decisions:
        return "Agent's voice: the sender changed nothing, or its decisions were not recorded."
    rates = [decisions[0]["bitrate_before_bps"], *(row["bitrate_bps"] for row in decisions)]
    spans = list(_spans(start_ns, end_ns, decisions))
    whole = sum(end - begin for begin, end, _, _ in spans)
    with_fec = sum(end - begin for begin, end, _, fec in spans if fec)
    lengths = sorted({decisions[0]["ptime_before_ms"], *(row["ptime_ms"] for row in decisions)})
    return (
        f"Agent's voice: n = {words.count(len(decisions))} changes; bit rate {rates[0] / _KILO:.1f} → "
        f"{words.kilobits(rates[-1])}, lowest {words.kilobits(min(rates))}; redundancy (FEC) "
        f"{words.percent(with_fec / whole if whole else None, 0)} of the time; packets of "
        f"{', '.join(str(length) for length in lengths)} ms."
    )
