"""Calls as traces: a projection of the facts of sessions and turns, made while they are written.

A call is one span, under the span that its signalling request came from if it said so. Each turn is a span under it,
made when the turn is over, and the parts of a turn are spans under that. All times are the facts' own (UTC ns).
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventlog.schema import FACTS, FactType
from relay import tracing_names as names
from relay.tracing_turn import Part, Turn, attributes_of
from relay.transceiver.facts import FactSink

_TURN, _SESSION = FACTS["turn"], FACTS["session"]
_BEGINNING: Final = frozenset({"user_speech_started", "response_requested", "agent_audio_started"})
_OVER_AGENT: Final = frozenset({"user_barged_in", "backchannel"})
_NEXT: Final = frozenset({"endpoint_decided", "agent_audio_started"})
"""What shows that all earlier turns are over."""

_W3C: Final = TraceContextTextMapPropagator()
_log = structlog.get_logger(__name__)


class Calls:
    """Takes facts on their way to the log and makes spans of what they say. Use from one thread; never blocks.

    Args:
        facts: where all facts go on to.
        tracer: makes the spans.

    """

    def __init__(self, facts: FactSink, tracer: Tracer) -> None:
        self._add = facts.add
        self._tracer = tracer
        self._calls: dict[bytes, _Call] = {}

    def add(self, fact: FactType, /, **columns: Any) -> None:
        """Take one row, as `FactSink` says."""
        self._add(fact, **columns)
        if fact is not _TURN and fact is not _SESSION:
            return
        try:
            if fact is _TURN:
                self._turn(**columns)
            else:
                self._step(**columns)
        except Exception:  # noqa: BLE001 - a call must not end because its trace could not be made
            self._calls.pop(columns["session_id"], None)
            _log.exception("the trace of a call is broken off", session_id=str(uuid.UUID(bytes=columns["session_id"])))

    def _step(
        self, *, session_id: bytes, region: str, observed_ns: int, step: str, attributes: dict[str, str], **columns: Any
    ) -> None:
        if step == "offered":
            call = _Call(self._tracer, session_id, region, observed_ns, attributes)
            if call.recorded:
                self._calls[session_id] = call
        elif step == "closed":
            ended = self._calls.pop(session_id, None)
            if ended is not None:
                ended.close(observed_ns, attributes.get("who", ""), str(columns.get("reason")))
        elif session_id in self._calls:
            self._calls[session_id].mark(step, observed_ns, columns)

    def _turn(
        self, *, session_id: bytes, observed_ns: int, turn_id: int, kind: str, at_ns: int, **columns: Any
    ) -> None:
        call = self._calls.get(session_id)
        if call is not None:
            call.turn(turn_id, kind, at_ns, observed_ns, columns)


class _Call:
    """One call's spans; `recorded` is False if the trace that it belongs to is not sampled."""

    def __init__(
        self, tracer: Tracer, session_id: bytes, region: str, observed_ns: int, attributes: dict[str, str]
    ) -> None:
        name = str(uuid.UUID(bytes=session_id))
        told = {names.OF_SESSION[key]: value for key, value in attributes.items() if key in names.OF_SESSION}
        self._tracer = tracer
        self._span: Span = tracer.start_span(
            names.CALL,
            _W3C.extract(attributes, Context()),
            SpanKind.SERVER,
            {names.SESSION_ID: name, names.CONVERSATION_ID: name, names.REGION: region, **told},
            start_time=observed_ns,
        )
        self._within = set_span_in_context(self._span, Context())
        self._turns: dict[int, Turn] = {}
        self.recorded = self._span.is_recording()

    def mark(self, kind: str, at_ns: int, columns: dict[str, Any]) -> None:
        """Add something that happened to the call as a whole."""
        self._span.add_event(names.event(kind), attributes_of(columns), at_ns)

    def turn(self, turn_id: int, kind: str, at_ns: int, observed_ns: int, columns: dict[str, Any]) -> None:
        """Take a turn fact."""
        if kind == "backchannel" and turn_id in self._turns and not self._turns[turn_id].forget_speech(at_ns):
            del self._turns[turn_id]
        if kind in _OVER_AGENT and turn_id - 1 in self._turns:
            turn_id -= 1  # it happened to the answer that was being said
        if kind in _NEXT:
            for earlier in [number for number in self._turns if number < turn_id]:
                self._finish(earlier)
        if turn_id not in self._turns and kind in _BEGINNING:
            self._turns[turn_id] = Turn(turn_id)
        turn = self._turns.get(turn_id)
        if turn is not None:
            turn.take(kind, at_ns, observed_ns, columns)
        elif kind != "user_speech_stopped":  # which is a backchannel's
            self.mark(kind, at_ns, columns)
        if kind == "agent_audio_stopped" and columns.get("reason") != "yielded":
            self._finish(turn_id)

    def close(self, at_ns: int, who: str, reason: str) -> None:
        """End the call's span and those of turns that are still open."""
        for turn_id in list(self._turns):
            self._finish(turn_id)
        self._span.set_attributes({names.CLOSED_BY: who, names.CLOSED_REASON: reason})
        # A client, an operator or our own end may close a call; a fault or a network that went away are errors.
        if reason == "dtls_failed" or (who in {"system", "network"} and reason != "shutdown"):
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end(at_ns)

    def _finish(self, turn_id: int) -> None:
        turn = self._turns.pop(turn_id, None)
        if turn is None:
            return
        began_ns, ended_ns = turn.finish()
        span = self._tracer.start_span(
            names.TURN, self._within, attributes={names.TURN_ID: turn_id, **turn.attributes}, start_time=began_ns
        )
        for mark in turn.marks:
            span.add_event(mark.name, mark.attributes, mark.at_ns)
        within = set_span_in_context(span, Context())
        for part in turn.parts:
            self._part(part, within)
        if turn.error:
            span.set_status(Status(StatusCode.ERROR, "the voice model's answer ended early"))
        span.end(ended_ns)

    def _part(self, part: Part, within: Context) -> None:
        asked = part.name == names.MODEL
        known = dict((names.OPERATION, names.OUTPUT_TYPE)) if asked else {}
        self._tracer.start_span(
            part.name,
            within,
            SpanKind.CLIENT if asked else SpanKind.INTERNAL,
            {**known, **part.attributes},
            start_time=part.start_ns,
        ).end(part.end_ns)
