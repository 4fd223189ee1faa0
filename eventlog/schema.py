"""The nine fact types, schema version 1: columns, types, units, identity.

This module is the one place that says what a fact looks like. The Arrow schemas here are what producers write,
what travels in a chunk and what the store's tables are made for. Within a version columns are only ever added.

Conventions: `_ns` is nanoseconds (UTC epoch unless the name says `mono`), `_us` microseconds, `_ms` milliseconds,
`_bytes` octets. A nullable column is NULL where the thing was not observed; unknown is never written as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

SCHEMA_VERSION: Final = 1

UUID_TYPE: Final = pa.binary(16)
"""Session identifiers travel as the 16 big-endian bytes of a UUIDv7 (RFC 9562), which ClickHouse takes as UUID."""

NAME: Final = pa.dictionary(pa.int32(), pa.string())
"""A low-cardinality string."""

TIME: Final = pa.timestamp("ns", tz="UTC")
"""Nanoseconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class FactType:
    """One kind of fact.

    Attributes:
        name: singular name (`packet`).
        topic: log topic; its last part is also the name of the store's table (`packets`).
        ce_type: CloudEvents type, version included.
        schema: Arrow schema of a chunk of this type.
        identity: columns that together name one row; no two facts of the type agree on all of them.
        order: columns a chunk is sorted by.
        defaults: columns that were added later and are never NULL, with the value that they have in chunks from before
            (and where a producer leaves them out).
        step_ns: resolution of its `observed_ns`, and what one of two equal times of a stream is moved on by.

    """

    name: str
    topic: str
    ce_type: str
    schema: pa.Schema
    identity: tuple[str, ...]
    order: tuple[str, ...]
    defaults: Mapping[str, int] = field(default_factory=dict)
    step_ns: int = 1

    @property
    def table(self) -> str:
        """Name of the store's table."""
        return self.topic.rpartition(".")[2]


def _common() -> list[pa.Field[Any]]:
    return [
        pa.field("session_id", UUID_TYPE, nullable=False),
        pa.field("region", NAME, nullable=False),  # of the edge the call enters by (a process's own for `emitter`)
        pa.field("host_id", NAME, nullable=False),  # names a clock: times of one host may be subtracted
        pa.field("observed_ns", TIME, nullable=False),
    ]


def _fact(
    name: str,
    plural: str,
    fields: list[pa.Field[Any]],
    identity: tuple[str, ...],
    defaults: Mapping[str, int] | None = None,
    step_ns: int = 1,
) -> FactType:
    key = ("session_id", *identity, "observed_ns")
    return FactType(
        name=name,
        topic=f"sidetone.{plural}",
        ce_type=f"sidetone.{name}.v{SCHEMA_VERSION}",
        schema=pa.schema(_common() + fields),
        identity=("host_id", *key),
        order=key,
        defaults=defaults or {},
        step_ns=step_ns,
    )


PACKET_TIME_NS: Final = 16_000
"""Resolution of a packet's `observed_ns` and `transit_delta_us`: three quarters of the unit of Opus' RTP clock
(1/48,000 s), in which RFC 3550 counts jitter. What lies below is noise of the receiving machine, and noise does not
compress: every bit of it is a bit in the store. A power of two in microseconds, because the store packs numbers by
bits; a second is a whole number of steps. Differences are taken before times are cut to it, then rounded."""

PACKET: Final = _fact(
    "packet",
    "packets",
    [
        pa.field("tap", NAME, nullable=False),  # see TAPS
        pa.field("stream", pa.uint32(), nullable=False),  # SSRC
        pa.field("ext_seq", pa.int64(), nullable=False),  # RFC 3550 A.1 extended sequence number
        pa.field("rtp_ts", pa.uint32(), nullable=False),
        pa.field("payload_type", pa.uint8(), nullable=False),
        pa.field("marker", pa.bool_(), nullable=False),
        pa.field("size_bytes", pa.uint16(), nullable=False),  # UDP payload
        pa.field("audio_level_dbov", pa.int8()),  # RFC 6464, 0 … -127
        pa.field("voice_activity", pa.bool_()),  # RFC 6464
        pa.field("dscp", pa.uint8()),  # as received
        pa.field("transit_delta_us", pa.int32()),  # RFC 3550 D; NULL for a stream's first packet and for duplicates
        pa.field("newly_lost", pa.int32(), nullable=False),  # packets this arrival shows missing; -1: one turned up
        pa.field("reordered", pa.bool_(), nullable=False),  # RFC 4737
        pa.field("duplicate", pa.bool_(), nullable=False),
        # Packets of its stream and second that this row stands for, itself included: 1 unless an edge thins its facts.
        pa.field("represents", pa.uint32(), nullable=False),
    ],
    ("tap", "stream"),
    {"represents": 1},
    PACKET_TIME_NS,
)

FRAME: Final = _fact(
    "frame",
    "frames",
    [
        pa.field("mono_ns", pa.int64(), nullable=False),
        pa.field("direction", NAME, nullable=False),  # `in`: the user's voice; `out`: the agent's
        pa.field("stream", pa.uint32(), nullable=False),
        pa.field("tick", pa.int64(), nullable=False),  # 20 ms ticks since the session's first
        pa.field("kind", NAME, nullable=False),  # see FRAME_KINDS
        pa.field("rtp_ts", pa.uint32()),
        pa.field("lateness_us", pa.int32(), nullable=False),  # tick ran this long after it was due
        pa.field("underrun", pa.bool_(), nullable=False),  # `out`: voice was due and did not leave in its 20 ms
        pa.field("buffer_ms", pa.float32()),  # jitter buffer depth after the tick
        pa.field("target_ms", pa.float32()),  # jitter buffer target
        pa.field("level_dbov", pa.float32()),
        pa.field("vad", pa.bool_()),
    ],
    ("direction", "tick"),
)

LEG: Final = _fact(
    "leg",
    "legs",
    [
        pa.field("leg", NAME, nullable=False),  # see LEGS
        pa.field("method", NAME, nullable=False),  # `stun`, `rtcp`, `probe`
        pa.field("rtt_us", pa.uint32(), nullable=False),
        pa.field("remote_region", NAME),
    ],
    ("leg", "method"),
)

TURN: Final = _fact(
    "turn",
    "turns",
    [
        pa.field("mono_ns", pa.int64(), nullable=False),
        pa.field("turn_id", pa.uint32(), nullable=False),  # from 1; 0 before the user's first turn
        pa.field("kind", NAME, nullable=False),  # see TURN_KINDS
        pa.field("actor", NAME, nullable=False),  # `user`, `agent`, `system`
        pa.field("at_ns", TIME, nullable=False),  # when it happened, which may be before it was observed
        pa.field("audio_ms", pa.float64()),  # position on the media clock of the actor's stream
        pa.field("reason", NAME),
        pa.field("detector", NAME),  # which detector, e.g. `webrtcvad:2`
        pa.field("probability", pa.float32()),
        pa.field("threshold", pa.float32()),
        pa.field("silence_ms", pa.float32()),
        pa.field("text", pa.string()),  # transcript or tool name; only with consent
        pa.field("inputs", pa.string()),  # the decision's inputs and settings, JSON object
    ],
    ("turn_id", "kind"),
)

SESSION: Final = _fact(
    "session",
    "sessions",
    [
        pa.field("step", NAME, nullable=False),  # see SESSION_STEPS
        pa.field("reason", NAME),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
    ],
    ("step",),
)

CLIENT: Final = _fact(
    "client",
    "clients",
    [
        pa.field("client_ns", TIME),  # the client's own clock
        pa.field("kind", NAME, nullable=False),  # W3C RTCStats type, or `playout` for what the listener heard
        pa.field("stream", pa.uint32()),
        pa.field("values", pa.map_(pa.string(), pa.float64()), nullable=False),  # W3C names, W3C units
    ],
    ("kind",),
)

AUDIO: Final = _fact(
    "audio",
    "audio",
    [
        pa.field("tap", NAME, nullable=False),
        pa.field("stream", pa.uint32(), nullable=False),
        pa.field("ext_seq", pa.int64(), nullable=False),
        pa.field("rtp_ts", pa.uint32(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ],
    ("tap", "stream"),
)

INPUT: Final = _fact(
    "input",
    "inputs",
    [
        pa.field("mono_ns", pa.int64(), nullable=False),
        pa.field("sequence", pa.uint64(), nullable=False),  # order within the session
        pa.field("kind", NAME, nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ],
    ("sequence",),
)

EMITTER: Final = _fact(
    "emitter",
    "emitters",
    [
        pa.field("producer", NAME, nullable=False),  # `ce_source`
        pa.field("role", NAME, nullable=False),
        pa.field("fact_type", NAME, nullable=False),
        pa.field("captured", pa.uint64(), nullable=False),  # cumulative rows since the producer started
        pa.field("emitted", pa.uint64(), nullable=False),  # rows handed to the log, this row's chunk included
        pa.field("spooled", pa.uint64(), nullable=False),
        pa.field("shed", pa.map_(pa.string(), pa.uint64()), nullable=False),  # reason -> rows never emitted
        pa.field("final", pa.bool_(), nullable=False),  # the producer's last account
    ],
    ("producer", "fact_type"),
)

FACTS: Final[dict[str, FactType]] = {
    fact.name: fact for fact in (PACKET, FRAME, LEG, TURN, SESSION, CLIENT, AUDIO, INPUT, EMITTER)
}
BY_CE_TYPE: Final[dict[str, FactType]] = {fact.ce_type: fact for fact in FACTS.values()}
BY_TOPIC: Final[dict[str, FactType]] = {fact.topic: fact for fact in FACTS.values()}

TAPS: Final = ("edge_up", "edge_down", "transceiver_in", "transceiver_out")
LEGS: Final = ("client_edge", "edge_transceiver", "client_transceiver", "transceiver_model")
FRAME_KINDS: Final = ("played", "concealed", "fec_recovered", "discarded_late", "silence")
TURN_KINDS: Final = (
    "user_speech_started",
    "user_speech_stopped",
    "endpoint_candidate",
    "endpoint_decided",
    "endpoint_revoked",
    "response_requested",
    "model_first_token",
    "model_first_audio",
    "agent_audio_started",
    "agent_audio_stopped",
    "user_barged_in",
    "agent_yielded",
    "agent_resumed",
    "backchannel",
    "tool_started",
    "tool_ended",
    "user_audible",
    "agent_audible",
)
AGENT_STOP_REASONS: Final = ("completed", "yielded", "hangup", "error")
SESSION_STEPS: Final = (
    "offered",
    "ice_connected",
    "dtls_connected",
    "first_packet",
    "first_frame",
    "consent",
    "closed",
)

NO_SESSION: Final = bytes(16)
"""Session of facts that belong to a process and not to a call (emitter accounts)."""
