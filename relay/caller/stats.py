"""What the caller tells the platform over the data channel: getStats samples by W3C names, and what it heard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from relay.caller.ear import Ear
from relay.caller.records import Answer
from relay.speech.clip import RATE

LABEL = "sidetone"
"""Label of the data channel."""


def message(kind: str, values: dict[str, float], *, stream: int | None = None) -> str:
    """One `sidetone.stats` message: a W3C RTCStats type, its values in W3C units, and the SSRC they belong to."""
    return json.dumps(
        {
            "type": "sidetone.stats",
            "client_ns": time.time_ns(),
            "kind": kind,
            "stream": stream,
            "values": values,
        }
    )


def inbound(ear: Ear) -> Iterator[str]:
    """The `inbound-rtp` message of the stream that is played; nothing before its first packet."""
    stream, playout = ear.stats, ear.playout
    if stream is None:
        return
    values = {
        "packetsReceived": stream.received - stream.duplicates,
        "packetsLost": stream.lost,
        "packetsDiscarded": ear.discarded,
        "jitter": stream.jitter_s,
        "jitterBufferDelay": playout.delay_s,
        "jitterBufferEmittedCount": playout.emitted,
        "totalSamplesReceived": playout.total_samples,
        "concealedSamples": playout.concealed_samples,
        "silentConcealedSamples": playout.silent_concealed_samples,
        "concealmentEvents": playout.concealment_events,
    }
    yield message("inbound-rtp", values, stream=ear.ssrc)


def outbound(report: Mapping[str, Any]) -> Iterator[str]:
    """The `outbound-rtp` and `remote-inbound-rtp` messages out of an aiortc sender's report."""
    for entry in report.values():
        if entry.type == "outbound-rtp":
            values: dict[str, float] = {"packetsSent": entry.packetsSent, "bytesSent": entry.bytesSent}
        elif entry.type == "remote-inbound-rtp":
            values = {
                "packetsLost": entry.packetsLost,
                "jitter": entry.jitter / RATE,
                "fractionLost": entry.fractionLost / 256,
            }
            if entry.roundTripTime is not None:
                values["roundTripTime"] = entry.roundTripTime
        else:
            continue
        yield message(entry.type, values, stream=entry.ssrc)


def playout(answer: Answer, number: int, playout_delay_ms: float | None) -> str:
    """The `sidetone.playout` message of an answer at its onset.

    `turn` counts the answers heard, from 1; `heard_delay_ms` is the response latency by the caller's own ear, and
    `playout_delay_ms` how long the onset's packet waited for its turn; each is absent where it is not known.
    """
    values: dict[str, float] = {"turn": number}
    if answer.user_end_ns is not None and answer.kind != "cut-in":
        values["heard_delay_ms"] = (answer.heard_start_ns - answer.user_end_ns) / 1e6
    if playout_delay_ms is not None:
        values["playout_delay_ms"] = playout_delay_ms
    return json.dumps(
        {"type": "sidetone.playout", "client_ns": answer.heard_start_ns, "kind": "playout", "values": values}
    )
