"""How far the platform's account of the turns is from the callers': matched by time, graded in milliseconds. Pure.

An answer that a caller heard and an agent's speech that the platform recorded belong together if they overlap in time,
once the platform's is moved by what the platform knows of the way to the ear. Each is matched once; where several
overlap, the pair whose beginnings lie nearest to each other goes first.

The caller's response latency is `heard_start` less the end of its last voiced span before that: what it waited,
whatever the platform took for the end. An answer that cut in on the caller has none. The platform's is `listener_ms`.

Quantiles are exact and not interpolated, by the rule of the store's `quantileExact`: of n values in ascending order the
q-quantile is the one at ⌊q·n⌋, counted from 0, so it is an error that some turn really had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

EARLY_NS: Final = 250_000_000
"""How much earlier than expected an answer may be heard and still be the same: the estimate of the way is rough."""

LATE_NS: Final = 1_000_000_000
"""How much later: on a bad network, and all the more where the platform knows nothing of the way."""

_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Match:
    """An answer and its turn.

    Attributes:
        session_id: the session.
        turn_id: the platform's turn.
        answer: index of the answer in the call's list.
        heard_ms: response latency by the caller's ear; None where the agent cut in, or nothing was said before.
        platform_ms: the platform's estimate of it; None where a part of it was not measured.

    """

    session_id: str
    turn_id: int
    answer: int
    heard_ms: float | None
    platform_ms: float | None

    @property
    def error_ms(self) -> float | None:
        """Platform's less the caller's latency, signed; None unless both are known."""
        if self.heard_ms is None or self.platform_ms is None:
            return None
        return self.platform_ms - self.heard_ms


@dataclass(frozen=True, slots=True)
class Comparison:
    """The platform's turns against the callers' truth.

    Attributes:
        heard: answers that the callers heard.
        matched: of them found among the platform's turns.
        continued: of them a further stretch of a turn that was found already: the caller spoke over the agent, which
            drew breath and went on.
        missed: of them not found.
        unheard: the platform's answered turns, in the callers' sessions, that no caller heard.
        graded: matches where both sides know the latency.
        error_ms: absolute error of response latency, `p50`, `p95` and `max`; None if nothing could be graded.
        bias_ms: median of the signed error (platform less caller); None likewise.
        matches: every match.

    """

    heard: int
    matched: int
    continued: int
    missed: int
    unheard: int
    graded: int
    error_ms: dict[str, float | None]
    bias_ms: float | None
    matches: list[Match] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The comparison without the single matches, as plain values that `json.dumps` takes."""
        return {name: value for name, value in asdict(self).items() if name != "matches"}


def compare(calls: Iterable[Mapping[str, Any]], turns: Iterable[Mapping[str, Any]]) -> Comparison:
    """Match every call's answers to the platform's turns of its session and compare the latencies.

    Args:
        calls: as in `FleetReport.to_dict()["calls"]`.
        turns: rows with `session_id` (text), `turn_id`, `agent_audio_started_ns` and
            `listener_ms`, and if known `agent_audio_stopped_ns`, `one_way_ms` (network) and `playout_ms`; None or
            absent where not measured. Turns without an answer are left out.

    """
    sessions: dict[str, list[Mapping[str, Any]]] = {}
    for turn in turns:
        if turn["agent_audio_started_ns"] is not None:
            sessions.setdefault(str(turn["session_id"]), []).append(turn)
    heard = answered = continued = 0
    matches: list[Match] = []
    for call in calls:
        session = sessions.get(str(call["session_id"]), [])
        heard += len(call["answers"])
        answered += len(session)
        found = match_call(call, session)
        matches += found
        rest = set(range(len(call["answers"]))) - {match.answer for match in found}
        continued += sum(any(_apart_ns(call["answers"][index], turn) is not None for turn in session) for index in rest)
    errors = sorted(match.error_ms for match in matches if match.error_ms is not None)
    sizes = sorted(abs(error) for error in errors)
    return Comparison(
        heard=heard,
        matched=len(matches),
        continued=continued,
        missed=heard - len(matches) - continued,
        unheard=answered - len(matches),
        graded=len(errors),
        error_ms={"p50": quantile(sizes, 0.5), "p95": quantile(sizes, 0.95), "max": quantile(sizes, 1.0)},
        bias_ms=quantile(errors, 0.5),
        matches=matches,
    )


def match_call(call: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> list[Match]:
    """Match one call's answers to its session's answered turns, one to one; in order of the answers."""
    pairs = sorted(
        (apart_ns, index, number)
        for index, answer in enumerate(call["answers"])
        for number, turn in enumerate(turns)
        if (apart_ns := _apart_ns(answer, turn)) is not None
    )
    matches: dict[int, Match] = {}
    taken: set[int] = set()
    for _, index, number in pairs:
        if index not in matches and number not in taken:
            taken.add(number)
            matches[index] = _match(call, index, turns[number])
    return [matches[index] for index in sorted(matches)]


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The value at ⌊q·n⌋, counted from 0, of n in ascending order; None of none."""
    return ordered[min(len(ordered) - 1, math.floor(q * len(ordered)))] if ordered else None


def _apart_ns(answer: Mapping[str, Any], turn: Mapping[str, Any]) -> int | None:
    """How far the beginnings of answer and turn are apart at the ear; None if the two do not overlap."""
    way_ns = round(((turn.get("one_way_ms") or 0.0) + (turn.get("playout_ms") or 0.0)) * _MS)
    starts_ns = int(turn["agent_audio_started_ns"]) + way_ns
    ends_ns = max(starts_ns, int(turn.get("agent_audio_stopped_ns") or 0) + way_ns)
    heard_ns = int(answer["heard_start_ns"])
    heard_end_ns = max(heard_ns, answer["heard_end_ns"] or 0)
    if heard_end_ns < starts_ns - EARLY_NS or heard_ns > ends_ns + LATE_NS:
        return None
    return abs(heard_ns - starts_ns)


def _match(call: Mapping[str, Any], index: int, turn: Mapping[str, Any]) -> Match:
    answer = call["answers"][index]
    ended_ns = answer["user_end_ns"] if answer["kind"] != "cut-in" else None
    heard_ms = None if ended_ns is None else (int(answer["heard_start_ns"]) - int(ended_ns)) / _MS
    return Match(str(turn["session_id"]), int(turn["turn_id"]), index, heard_ms, turn.get("listener_ms"))
