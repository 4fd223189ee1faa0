"""Whether the platform's turn-taking errors are those that the scripts provoked: precision, recall, confusion. Pure.

An error belongs to the caller's utterance that had begun last when it happened. Per call, utterance and kind it is
either there or not: the platform may report one kind for one utterance more than once (it counts once).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

EARLY_NS: Final = 100_000_000
"""The platform may see an utterance begin that much before the caller has it begin: detectors look back. Networks only
make it later. Utterances are further apart."""

NOTHING: Final = "(nothing)"
"""Row of the confusion table for what was reported and not expected; column for what was expected and not reported."""


@dataclass(slots=True)
class Tally:
    """How one kind of error was reported.

    Attributes:
        expected: provoked by the scripts.
        reported: by the platform.
        both: of them the same.

    """

    expected: int = 0
    reported: int = 0
    both: int = 0

    @property
    def precision(self) -> float | None:
        """Of what was reported, the share that was provoked; None if nothing was reported."""
        return self.both / self.reported if self.reported else None

    @property
    def recall(self) -> float | None:
        """Of what was provoked, the share that was reported; None if nothing was provoked."""
        return self.both / self.expected if self.expected else None


@dataclass(slots=True)
class Verdicts:
    """All kinds.

    Attributes:
        tallies: by kind.
        confusion: (expected, reported) → how often; what was expected and not reported stands beside what was reported
            for the same utterance and not expected, else beside `NOTHING`.
        odd: what did not agree: `(script, network, session, utterance, expected, reported)`.

    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    odd: list[tuple[str, str, str | None, int, str, str]] = field(default_factory=list)


def judge(calls: Iterable[Mapping[str, Any]], errors: Iterable[Mapping[str, Any]], kinds: Sequence[str]) -> Verdicts:
    """Hold the platform's errors against what each call's script expects.

    Args:
        calls: as in `FleetReport.to_dict()["calls"]`; failed calls are left out.
        errors: rows of the question `turn_errors`.
        kinds: of errors that there are.

    """
    verdicts = Verdicts({kind: Tally() for kind in kinds})
    by_session: dict[str, list[Mapping[str, Any]]] = {}
    for error in errors:
        by_session.setdefault(str(error["session_id"]), []).append(error)
    for call in calls:
        if call["error"] is None:
            _judge_call(call, by_session.get(str(call["session_id"]), []), verdicts)
    return verdicts


def _judge_call(call: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], verdicts: Verdicts) -> None:
    expected = {(int(one["turn"]), str(one["error"])) for one in call["expected"]}
    reported = {(utterance_at(call, int(error["at_ns"])), str(error["kind"])) for error in errors}
    for _, kind in expected:
        verdicts.tallies[kind].expected += 1
    for _, kind in reported:
        verdicts.tallies[kind].reported += 1
    for _, kind in expected & reported:
        verdicts.tallies[kind].both += 1
        verdicts.confusion[kind, kind] += 1
    missing, extra = sorted(expected - reported), sorted(reported - expected)
    for turn in sorted({turn for turn, _ in (*missing, *extra)}):
        lacking = [kind for at, kind in missing if at == turn]
        surplus = [kind for at, kind in extra if at == turn]
        for index in range(max(len(lacking), len(surplus))):
            pair = (
                lacking[index] if index < len(lacking) else NOTHING,
                surplus[index] if index < len(surplus) else NOTHING,
            )
            verdicts.confusion[pair] += 1
            verdicts.odd.append((call["script"], call["network"], call["session_id"], turn, *pair))


def utterance_at(call: Mapping[str, Any], at_ns: int) -> int:
    """Number, from 1, of the caller's utterance that had begun last at a time; 0 before the first."""
    return sum(int(utterance["start_ns"]) - EARLY_NS <= at_ns for utterance in call["utterances"])
