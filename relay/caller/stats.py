"""What the caller tells the platform over the data channel: getStats samples by W3C names, and what it heard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from relay.caller.ear import Ear
from relay.caller.offset import Offset
from relay.caller.phrases import PAUSE_MS
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
    # The sound card asks for what it plays and never goes short of it: what is missing was concealed before it.
    card = {
        "totalSamplesCount": playout.total_samples,
        "totalSamplesDuration": playout.total_samples / RATE,
        "synthesizedSamplesDuration": 0.0,
        "totalPlayoutDelay": 0.0,
    }
    yield message("media-playout", card)


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


def playout(
    heard_ns: int, number: int, *, spoke_ns: int | None, playout_delay_ms: float | None, clock: Offset | None
) -> str:
    """The `sidetone.playout` message of an answer at its onset, which was heard at `heard_ns` of the caller's clock.

    Values: `turn` counts the answers heard, from 1. `heard_delay_ms` is the response latency by the caller's own ear,
    from the last voiced sample at its microphone (`spoke_ns`); absent if the caller was still speaking, which a silence
    shorter than a pause does not end.
    `playout_delay_ms` is how long the onset's packet waited for its turn. `clock_offset_ms` is to be added to the
    caller's clock for the platform's, and `clock_error_ms` how wrong that may be. What is not known is absent.
    """
    values: dict[str, float] = {"turn": number}
    if spoke_ns is not None and heard_ns - spoke_ns >= PAUSE_MS * 1_000_000:
        values["heard_delay_ms"] = (heard_ns - spoke_ns) / 1e6
    if playout_delay_ms is not None:
        values["playout_delay_ms"] = playout_delay_ms
    if clock is not None:
        values |= offset(clock)
    return json.dumps({"type": "sidetone.playout", "client_ns": heard_ns, "kind": "playout", "values": values})


def offset(clock: Offset) -> dict[str, float]:
    """The values that say how the caller's clock stands to the platform's."""
    return {"clock_offset_ms": clock.offset_ns / 1e6, "clock_error_ms": clock.error_ns / 1e6}


def ping() -> str:
    """The question what time it is at the other end."""
    return json.dumps({"type": "sidetone.ping", "client_ns": time.time_ns()})
