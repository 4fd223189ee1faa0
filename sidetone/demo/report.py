"""The demo's account: what the sources emitted beside what is stored, what the callers heard beside what was measured.

The sources' side comes from the event log's own chunks and the producers' final accounts in it, and from the callers;
the platform's side only from questions to the store. Nothing here is computed from both.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import analytics
from eventlog.audit import TypeAudit, audit
from relay.caller.truth import compare
from sidetone.roles import log_opener
from sidetone.settings import Settings

_EVER = {"from": "now-1d"}


async def account(settings: Settings, fleet: dict[str, Any]) -> dict[str, Any]:
    """Return the demo's account; `conclude` adds whether all is well.

    Args:
        settings: where log and store are; every producer and the collector have ended.
        fleet: what the callers reported (`relay.caller.FleetReport.to_dict`).

    """
    log = log_opener(settings)()
    try:
        emitted = (await audit(log)).by_type
    finally:
        await log.aclose()
    client = analytics.connect(settings.store_host, settings.store_port)
    try:
        stored = {row["fact_type"]: row for row in analytics.run(client, "facts", {}).records()}
        overview = analytics.run(client, "overview", _EVER).records()
        measured = analytics.run(client, "loss_by_stream", _EVER).records()
        turns = analytics.run(client, "turns_latency", _EVER).records()
        ticks = analytics.run(client, "ticks", _EVER).records()
    finally:
        client.close()
    facts = {name: _fact(found, stored.get(name)) for name, found in sorted(emitted.items())}
    injected = _injected(fleet["calls"], measured)
    failed = [{"call": call["call"], "error": call["error"]} for call in fleet["calls"] if call["error"]]
    underruns = sum(row["underruns"] for row in ticks)
    return {
        "calls": sum(call["session_id"] is not None for call in fleet["calls"]),
        "failed_calls": failed,
        "turns": sum(row["turns"] for row in overview),
        "regions": {row["region"]: _region(row) for row in overview},
        "facts": facts,
        "truth": compare(fleet["calls"], turns).to_dict(),
        "injected": injected,
        "underruns": underruns,
        "ticks": sum(row["ticks"] for row in ticks),
        "late_ticks": sum(row["late_ticks"] for row in ticks),
        "tick_lateness_ms_p99": max((row["lateness_ms_p99"] for row in ticks), default=None),
    }


def conclude(result: dict[str, Any]) -> dict[str, Any]:
    """Return the account with `ok`: nothing was lost, doubled, shed or measured wrong; else `shortfalls` say what."""
    shortfalls = [
        f"{name}: {fact['emitted']} facts emitted, {fact['accounted']} by the producers' own count, {fact['stored']} "
        f"stored, {fact['distinct']} of them distinct, {sum(fact['shed'].values())} shed, {fact['missing_chunks']} "
        "chunks missing"
        for name, fact in result["facts"].items()
        if not _is_whole(fact)
    ]
    shortfalls += [
        f"{name}, {way}: the network lost {region[way]['lost']} packets, {region[way]['measured_lost']} were measured; "
        "they differ in one stream or more"
        for name, region in result["injected"].items()
        for way in ("uplink", "downlink")
        if not region[way]["equal"]
    ]
    shortfalls += [f"call {one['call']} failed: {one['error']}" for one in result["failed_calls"]]
    shortfalls += result["deaths"]
    return {"ok": not shortfalls, "shortfalls": shortfalls} | result


def _fact(source: TypeAudit, stored: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "emitted": source.rows,
        "accounted": source.accounted_emitted,
        "stored": stored["rows"] if stored else 0,
        "distinct": stored["distinct_rows"] if stored else 0,
        "missing_chunks": source.missing_chunks,
        "shed": source.shed,
    }


def _is_whole(fact: dict[str, Any]) -> bool:
    same = {fact["emitted"], fact["accounted"], fact["stored"], fact["distinct"]}
    return len(same) == 1 and not fact["missing_chunks"] and not any(fact["shed"].values())


def _region(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "calls": row["calls"],
        "turns": row["turns"],
        "packet_loss": row["packet_loss"],
        "response_latency_ms": {name: row[f"latency_{name}_ms"] for name in ("p50", "p90", "p95", "p99")}
        | {"n": row["latency_n"]},
    }


def _injected(calls: list[dict[str, Any]], measured: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Hold each stream's losses as the network made them beside the same stream's as it was measured.

    Uplink is measured by the edge (`edge_up`, from the store), downlink by the caller's own receiver, as nothing of
    the platform stands behind that part of the network.
    """
    at_edge = {(row["session_id"], row["stream"]): row["lost"] for row in measured if row["tap"] == "edge_up"}
    regions: dict[str, dict[str, Any]] = defaultdict(
        lambda: {
            "networks": [],
            "uplink": _nothing(),
            "downlink": _nothing(),
        }
    )
    for call in calls:
        region = regions[call["region"]]
        if call["network"] not in region["networks"]:
            region["networks"].append(call["network"])
        received = {stream["ssrc"]: stream["lost"] for stream in call["received"]}
        for stream in call["uplink"]["streams"]:
            _add(region["uplink"], stream, at_edge.get((call["session_id"], stream["ssrc"])))
        for stream in call["downlink"]["streams"]:
            _add(region["downlink"], stream, received.get(stream["ssrc"]))
    return dict(regions)


def _nothing() -> dict[str, Any]:
    return {"sent": 0, "lost": 0, "lost_unseen": 0, "measured_lost": 0, "streams": 0, "equal": True}


def _add(way: dict[str, Any], stream: dict[str, Any], measured: int | None) -> None:
    """Add one stream; `equal` stays true only while every single stream is measured to the packet."""
    way["streams"] += 1
    way["sent"] += stream["sent"]
    way["lost"] += stream["lost_seen"]
    way["lost_unseen"] += stream["lost_leading"] + stream["lost_trailing"]
    way["measured_lost"] += measured or 0
    if stream["delivered"] and measured != stream["lost_seen"]:
        way["equal"] = False
