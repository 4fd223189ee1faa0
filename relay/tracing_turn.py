"""One turn as spans: the marks and parts that its facts make, with the facts' own times.

Parts are those of a turn's waterfall (`latency_parts` in `docs/metrics.md`), reckoned in the same way, so that a trace
and the platform's own pages agree on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from relay import tracing_names as names

Attributes = dict[str, str | float | int | bool]

PARTS_MAX: Final = 64
"""Of one turn: a user may hesitate as often as there is time. More are counted."""

_NS_PER_MS: Final = 1_000_000

_HANDLERS: Final = {
    "user_speech_started": "_user_started",
    "user_speech_stopped": "_user_stopped",
    "endpoint_decided": "_decide",
    "endpoint_revoked": "_revoke",
    "response_requested": "_request",
    "model_first_audio": "_first_audio",
    "agent_audio_started": "_agent_started",
    "agent_audio_stopped": "_agent_stopped",
    "agent_resumed": "_resume",
}


class Part(NamedTuple):
    """A span within a turn: from when to when (UTC ns)."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes


class Mark(NamedTuple):
    """Something that happened at a time (UTC ns)."""

    name: str
    at_ns: int
    attributes: Attributes


@dataclass
class Turn:
    """One turn while its facts come in.

    Attributes:
        turn_id: as in the facts.
        parts: found so far.
        marks: everything else that happened.
        attributes: of the turn's span.
        error: the agent's speech ended because of an error.

    """

    turn_id: int
    parts: list[Part] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    attributes: Attributes = field(default_factory=dict)
    error: bool = False
    _left_out: int = 0
    _speaking_ns: int | None = None
    _spurts: list[tuple[int, int, int]] = field(default_factory=list)  # onset, acoustic end, when that was known
    _decided: tuple[int, float] | None = None  # when, after how much silence in ms
    _requested_ns: int | None = None
    _first_audio_ns: int | None = None
    _answering_ns: int | None = None
    _first_ns: int | None = None
    _last_ns: int = 0

    def take(self, kind: str, at_ns: int, observed_ns: int, columns: dict[str, Any]) -> None:
        """Take one fact of this turn."""
        self._first_ns = at_ns if self._first_ns is None else min(self._first_ns, at_ns)
        self._last_ns = max(self._last_ns, at_ns)
        name = _HANDLERS.get(kind)
        if name is None:
            return self.mark(kind, at_ns, columns)
        handler: Callable[[int, int, dict[str, Any]], None] = getattr(self, name)
        return handler(at_ns, observed_ns, columns)

    def mark(self, kind: str, at_ns: int, columns: dict[str, Any]) -> None:
        """Add something that happened."""
        if len(self.marks) < PARTS_MAX:
            self.marks.append(Mark(names.event(kind), at_ns, attributes_of(columns)))
        else:
            self._left_out += 1

    def forget_speech(self, onset_ns: int) -> bool:
        """Leave out what was said from an onset on: it was a backchannel. Return whether anything of the turn is left.

        A backchannel carries the number of the turn to come, which may come much later.
        """
        if self._speaking_ns == onset_ns:
            self._speaking_ns = None
        self._spurts = [spurt for spurt in self._spurts if spurt[0] != onset_ns]
        if self._spurts or self._speaking_ns is not None or self._requested_ns is not None:
            return True
        return bool(self.parts)

    def finish(self) -> tuple[int, int]:
        """Close what is open, and return when the turn began and ended (UTC ns)."""
        self._end_request(self._last_ns, "no_audio")
        begins = [spurt[0] for spurt in self._spurts[:1]] or [self._first_ns or self._last_ns]
        for onset_ns, end_ns, _ in self._spurts:
            self._part(names.USER_SPEECH, onset_ns, end_ns)
        if self._left_out:
            self.attributes[names.LEFT_OUT] = self._left_out
        return begins[0], max(self._last_ns, begins[0])

    # Handlers, one for each kind that makes a part.

    def _user_started(self, at_ns: int, _observed_ns: int, _columns: dict[str, Any]) -> None:
        self._speaking_ns = at_ns

    def _user_stopped(self, at_ns: int, observed_ns: int, _columns: dict[str, Any]) -> None:
        if self._speaking_ns is None:
            return  # the end of a backchannel
        if len(self._spurts) < PARTS_MAX:
            self._spurts.append((self._speaking_ns, at_ns, observed_ns))
        else:
            self._left_out += 1
        self._speaking_ns = None

    def _decide(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        self._decided = at_ns, columns.get("silence_ms") or 0.0
        self.attributes[names.ENDPOINTING] = _inputs(columns).get("endpointing", "")
        self.mark("endpoint_decided", at_ns, columns)

    def _revoke(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        self._decided = None
        self._end_request(at_ns, "revoked")
        self.mark("endpoint_revoked", at_ns, columns)

    def _request(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        self._end_request(at_ns, "no_audio")
        self._requested_ns, self._first_audio_ns = at_ns, None
        self.mark("response_requested", at_ns, columns)

    def _first_audio(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        if columns.get("reason") == "revoked" or self._requested_ns is None or self._first_audio_ns is not None:
            return self.mark("model_first_audio", at_ns, columns)
        self._first_audio_ns = at_ns
        wait_s = (at_ns - self._requested_ns) / 1e9
        found = {names.TIME_TO_FIRST_CHUNK_S: wait_s, **attributes_of(columns)}
        return self._part(names.MODEL, self._requested_ns, at_ns, found)

    def _agent_started(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        self._answering_ns = at_ns
        inputs = _inputs(columns)
        for name, attribute in (("unasked", names.UNASKED), ("over_user", names.OVER_USER)):
            if inputs.get(name):
                self.attributes[attribute] = True
        if self._first_audio_ns is not None:
            since_ns = max(self._first_audio_ns, self._decided[0] if self._decided else 0)
            self._part(names.PACING, since_ns, at_ns)
        self._respond(at_ns)

    def _respond(self, at_ns: int) -> None:
        """Say how long the first answer took, and what with."""
        if names.RESPONSE_MS in self.attributes or not self._spurts:
            return
        limit_ns = at_ns if self._decided is None else self._decided[0]
        before = [spurt for spurt in self._spurts if spurt[1] <= limit_ns]
        _, stopped_ns, seen_ns = before[-1] if before else self._spurts[0]
        self.attributes[names.RESPONSE_MS] = (at_ns - stopped_ns) / _NS_PER_MS
        if not before or self._decided is None:
            return
        decided_ns, silence_ms = self._decided
        heard_ns = min(seen_ns, decided_ns)
        # The silence that the decision waited for is media time; what is more than that was spent on the way in.
        buffered_ns = max(0, decided_ns - stopped_ns - round(silence_ms * _NS_PER_MS))
        buffered_ns = min(buffered_ns, heard_ns - stopped_ns)
        self._part(names.JITTER_BUFFER, stopped_ns, stopped_ns + buffered_ns)
        self._part(names.VAD_HANGOVER, stopped_ns + buffered_ns, heard_ns)
        self._part(names.ENDPOINT_WAIT, heard_ns, decided_ns)

    def _agent_stopped(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        if self._answering_ns is not None:
            self._part(names.AGENT_SPEECH, self._answering_ns, at_ns, attributes_of(columns))
            self._answering_ns = None
        self.error = self.error or columns.get("reason") == "error"

    def _resume(self, at_ns: int, _observed_ns: int, columns: dict[str, Any]) -> None:
        self._answering_ns = at_ns
        self.mark("agent_resumed", at_ns, columns)

    def _end_request(self, at_ns: int, reason: str) -> None:
        if self._requested_ns is not None and self._first_audio_ns is None:
            self._part(names.MODEL, self._requested_ns, at_ns, {names.REASON: reason})
        self._requested_ns = self._first_audio_ns = None

    def _part(self, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> None:
        if len(self.parts) < PARTS_MAX:
            self.parts.append(Part(name, start_ns, max(start_ns, end_ns), attributes or {}))
        else:
            self._left_out += 1


def attributes_of(columns: dict[str, Any]) -> Attributes:
    """Return what a turn fact says besides its kind and time."""
    return {attribute: columns[name] for name, attribute in names.OF_TURN.items() if columns.get(name) is not None}


def _inputs(columns: dict[str, Any]) -> dict[str, Any]:
    inputs = columns.get("inputs")
    return json.loads(inputs) if inputs else {}
