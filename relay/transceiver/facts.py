"""The facts of one call, with what is common to them filled in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Protocol

from eventlog.resolution import coarse_us
from eventlog.schema import FACTS, PACKET_TIME_NS, FactType
from voice.rtp import RtpHeader
from voice.sequence import Arrival

_PACKET, _FRAME, _LEG = FACTS["packet"], FACTS["frame"], FACTS["leg"]
_TURN, _SESSION, _CLIENT = FACTS["turn"], FACTS["session"], FACTS["client"]
_AUDIO, _INPUT = FACTS["audio"], FACTS["input"]


class FactSink(Protocol):
    """Where facts go: `eventlog.emitter.Emitter`."""

    def add(self, fact: FactType, /, *, session_id: bytes, region: str, observed_ns: int, **columns: object) -> None:
        """Take one row, at once."""


class SessionFacts:
    """Writes down what happens in a session. Each method adds one row and never blocks."""

    def __init__(self, emitter: FactSink, session_id: bytes, region: str) -> None:
        self._emitter = emitter
        self._id = session_id
        self._region = region
        self._inputs = 0
        self.consented = False

    def packet(self, tap: str, header: RtpHeader, arrival: Arrival, size_bytes: int, observed_ns: int) -> None:
        """One RTP packet at a tap of the transceiver."""
        delta_us = arrival.transit_delta_us
        self._emitter.add(
            _PACKET,
            session_id=self._id,
            region=self._region,
            observed_ns=observed_ns - observed_ns % PACKET_TIME_NS,
            tap=tap,
            stream=header.ssrc,
            ext_seq=arrival.ext_seq,
            rtp_ts=header.timestamp,
            payload_type=header.payload_type,
            marker=header.marker,
            size_bytes=size_bytes,
            audio_level_dbov=header.audio_level_dbov,
            voice_activity=header.voice_activity,
            transit_delta_us=None if delta_us is None else coarse_us(delta_us),
            newly_lost=arrival.newly_lost,
            reordered=arrival.reordered,
            duplicate=arrival.duplicate,
        )

    def audio(self, tap: str, header: RtpHeader, arrival: Arrival, payload: bytes, observed_ns: int) -> None:
        """One packet's payload, of a session that consented; nothing otherwise."""
        if self.consented:
            self._emitter.add(
                _AUDIO,
                session_id=self._id,
                region=self._region,
                observed_ns=observed_ns,
                tap=tap,
                stream=header.ssrc,
                ext_seq=arrival.ext_seq,
                rtp_ts=header.timestamp,
                payload=payload,
            )

    def frame(self, observed_ns: int, **columns: object) -> None:
        """One playout tick in one direction; columns as in the schema."""
        self._emitter.add(_FRAME, session_id=self._id, region=self._region, observed_ns=observed_ns, **columns)

    def leg(self, observed_ns: int, leg: str, method: str, rtt_us: int, remote_region: str | None = None) -> None:
        """One round trip."""
        self._emitter.add(
            _LEG,
            session_id=self._id,
            region=self._region,
            observed_ns=observed_ns,
            leg=leg,
            method=method,
            rtt_us=min(rtt_us, 0xFFFFFFFF),
            remote_region=remote_region,
        )

    def turn(self, observed_ns: int, **columns: object) -> None:
        """One thing that happened in the conversation; columns as in the schema."""
        self._emitter.add(_TURN, session_id=self._id, region=self._region, observed_ns=observed_ns, **columns)

    def step(self, step: str, attributes: Mapping[str, str] | None = None, *, reason: str | None = None) -> None:
        """One step in the session's life, now."""
        self._emitter.add(
            _SESSION,
            session_id=self._id,
            region=self._region,
            observed_ns=time.time_ns(),
            step=step,
            reason=reason,
            attributes=dict(attributes or {}),
        )

    def client(self, client_ns: int | None, kind: str, stream: int | None, values: Mapping[str, float]) -> None:
        """One sample that the client reported, observed now."""
        self._emitter.add(
            _CLIENT,
            session_id=self._id,
            region=self._region,
            observed_ns=time.time_ns(),
            client_ns=client_ns,
            kind=kind,
            stream=stream,
            values=dict(values),
        )

    def input(self, kind: str, payload: Mapping[str, object]) -> None:
        """One input that the conversation cannot be replayed without, as JSON."""
        self._emitter.add(
            _INPUT,
            session_id=self._id,
            region=self._region,
            observed_ns=time.time_ns(),
            mono_ns=time.monotonic_ns(),
            sequence=self._inputs,
            kind=kind,
            payload=json.dumps(payload, sort_keys=True).encode(),
        )
        self._inputs += 1
