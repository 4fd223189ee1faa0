"""Which packet facts are written: all of them, or all around bad moments and one in so many elsewhere.

Thinning is by groups: up to `one_in` packets of one stream within one second of the clock, of which one, chosen at
random, is written and `represents` all. So, weighted by `represents`:

- packets, lost, duplicates and reordered are exact, for every stream and every whole second: whatever changes one of
  the last three is a bad moment and is written itself, with 1;
- sums of anything else (bytes, transit times, levels) are unbiased estimates.

A bad moment is a loss or its taking back, a reordered packet, a duplicate, a packet without a known change in transit
time (the first of a stream, a restart), or a change of at least `transit_us`. Around it every packet of the *session*,
at both taps, is written: what came before is held long enough to be there still. The same goes for the spans that a
transceiver asks for because the conversation may be going wrong: these reach further back, as a late answer is known to
be late only when it has been waited for.

Pure: columns in, columns out; time is an argument, chance a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from relay.edge import moments

Columns = dict[str, npt.NDArray[Any]]
"""Columns of packets, all of one length. Read here: `session` (uint8, n by 16), `tap`, `stream`, `observed_ns`,
`transit_delta_us`, `transit_known`, `newly_lost`, `reordered`, `duplicate`; the others are carried along."""

_GROUPED: Final = ("session", "tap", "stream", "observed_ns")
_JUDGED: Final = (*_GROUPED, "transit_delta_us", "transit_known", "newly_lost", "reordered", "duplicate")
_NS: Final = 1_000_000_000
_SLICE_ROWS: Final = 4096  # worked on together: some two milliseconds


@dataclass(frozen=True, slots=True)
class Sampling:
    """Policy for packet facts.

    Attributes:
        policy: `full` writes every packet; `sampled` thins.
        one_in: packets that one row stands for at most, away from bad moments.
        before_s: seconds before a bad moment that are written in full.
        after_s: seconds after it, and after what a transceiver asks for.
        transit_us: change in transit time (either way) that makes a bad moment.
        rows: packets held at most; above it they are judged at once, without knowing what comes.
        hold_s: seconds for which packets are held; a transceiver may ask for so much of the past.

    """

    policy: Literal["full", "sampled"] = "full"
    one_in: int = 10
    before_s: float = 2.0
    after_s: float = 5.0
    transit_us: int = 20_000
    rows: int = 1_048_576
    hold_s: float = 6.0

    def __post_init__(self) -> None:
        """Refuse what makes no policy.

        Raises:
            ValueError: a value is out of range; the message says which.

        """
        if self.policy not in {"full", "sampled"}:
            raise ValueError(f"sampling policy {self.policy!r} is neither full nor sampled")
        if not 1 <= self.one_in <= moments.WEIGHT_MAX:
            raise ValueError(f"one row may stand for 1 to {moments.WEIGHT_MAX} packets, not {self.one_in}")
        if self.before_s < 0 or self.after_s < 0 or self.transit_us < 1 or self.rows < 1:
            raise ValueError("sampling: before_s and after_s must not be negative, transit_us and rows at least 1")
        if self.hold_s < self.before_s:
            raise ValueError(f"sampling: hold_s of {self.hold_s} is shorter than before_s of {self.before_s}")


class Asked(Protocol):
    """Spans of sessions that somebody wants in full: `relay.edge.keeps.Keeps`."""

    def spans(self) -> tuple[moments.Sessions, moments.Times, moments.Times]:
        """Return sessions (uint8, n by 16), and the first and last instants to be kept."""

    def forget(self, end_ns: int) -> None:
        """Forget what no packet observed at or after `end_ns` lies in."""


class _Held(NamedTuple):
    """A block of packets, and when its first and last were observed."""

    columns: Columns
    oldest_ns: int
    newest_ns: int


class Sampler:
    """Holds packets until it is known whether a bad moment follows them, then gives those that are to be written.

    Args:
        policy: what to keep.
        seed: of the choice within groups.
        asked: spans to be written in full, as transceivers asked for them.

    """

    def __init__(self, policy: Sampling, seed: int, asked: Asked | None = None) -> None:
        self._policy = policy
        self._rng = np.random.default_rng(seed)
        self._held: list[_Held] = []
        self._asked = asked
        self._moments = moments.Moments()
        self.thinned = 0
        """Packets that are represented by others, so far."""
        self.hurried = 0
        """Packets judged before their time, because too many were held."""

    @property
    def waiting(self) -> int:
        """Packets held now."""
        return sum(len(block.columns["observed_ns"]) for block in self._held)

    def drop(self) -> None:
        """Let go of the packets held."""
        self._held = []

    def add(self, columns: Columns) -> None:
        """Take packets of any streams, each stream's in the order of arrival."""
        at_ns = columns["observed_ns"]
        if not len(at_ns):
            return
        self._held.append(_Held(columns, int(at_ns.min()), int(at_ns.max())))
        bad = self._bad(columns)
        if bad.any():
            before_ns, after_ns = int(self._policy.before_s * _NS), int(self._policy.after_s * _NS)
            self._moments.add(columns["session"][bad], at_ns[bad] - before_ns, at_ns[bad] + after_ns)

    def due(self, now_ns: int, *, last: bool = False) -> Iterator[Columns | None]:
        """Yield packets to be written, with `represents` (uint32); None between two steps of work.

        Args:
            now_ns: on the clock of `observed_ns`. Whole seconds that ended `hold_s` ago are due.
            last: everything is due.

        """
        end_ns = (now_ns - int(self._policy.hold_s * _NS)) // _NS * _NS
        everything = last or self.waiting > self._policy.rows
        taken: list[Columns] = []
        held, self._held = self._held, []
        for block in held:
            if everything or block.newest_ns < end_ns:
                taken.append(block.columns)
            elif block.oldest_ns >= end_ns:
                self._held.append(block)
            else:
                ready = block.columns["observed_ns"] < end_ns
                taken.append(_rows(block.columns, ready))
                self._held.append(_Held(_rows(block.columns, ~ready), end_ns, block.newest_ns))
            if everything and not last:
                self.hurried += int(np.count_nonzero(block.columns["observed_ns"] >= end_ns))
        yield None
        if taken:
            whole: Columns = {}
            for name in taken[0]:
                whole[name] = np.concatenate([columns[name] for columns in taken])
                yield None
            yield from self._thin_all(whole)
        self._moments.forget(end_ns)
        if self._asked is not None:
            self._asked.forget(end_ns)

    def _bad(self, columns: Columns) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (
            (columns["newly_lost"] != 0)
            | columns["reordered"]
            | columns["duplicate"]
            | ~columns["transit_known"]
            | (np.abs(columns["transit_delta_us"].astype(np.int64)) >= self._policy.transit_us)
        )
        return found

    def _thin_all(self, columns: Columns) -> Iterator[Columns | None]:
        """Thin sessions by sessions, so that no step of work is long."""
        asked = moments.Moments()
        if self._asked is not None:
            asked.add(*self._asked.spans())
        rows = len(columns["observed_ns"])
        slices = max(1, rows // _SLICE_ROWS)
        # The end of a UUIDv7 is random (RFC 9562, section 5.7). Sorted as 16 bits, numpy sorts by radix.
        where = (columns["session"][:, 14].astype(np.int64) << 8 | columns["session"][:, 15]) % slices
        order = np.argsort(where.astype(np.int16), kind="stable")
        for index in np.split(order, np.searchsorted(where[order], np.arange(1, slices))):
            if len(index):
                yield self._thin(columns, index, asked)
            yield None

    def _thin(self, columns: Columns, index: npt.NDArray[np.intp], asked: moments.Moments) -> Columns:
        """Return what is written of the rows that `index` names."""
        judged = {name: columns[name][index] for name in _JUDGED}
        represents = np.ones(len(index), np.uint32)
        where = judged["session"], judged["observed_ns"]
        full = self._bad(judged) | self._moments.near(*where) | asked.near(*where)
        quiet = np.flatnonzero(~full)
        if len(quiet):
            represents[quiet] = self._weights({name: judged[name][quiet] for name in _GROUPED})
        kept = np.flatnonzero(represents)
        self.thinned += len(index) - len(kept)
        return _rows(columns, index[kept]) | {"represents": represents[kept]}

    def _weights(self, columns: Columns) -> npt.NDArray[np.uint32]:
        """Return what each row stands for: its group where it was chosen, or else 0."""
        halves = np.ascontiguousarray(columns["session"]).view(np.uint64)
        second = columns["observed_ns"] // _NS
        keys = (second, columns["stream"], columns["tap"], halves[:, 0], halves[:, 1])
        order = np.lexsort(keys)  # stable: within a stream's second in the order of arrival
        begins = np.zeros(len(order), np.bool_)
        begins[0] = True
        for key in keys:
            begins[1:] |= np.diff(key[order].astype(np.int64)) != 0
        at = np.arange(len(order))
        since = at - np.maximum.accumulate(np.where(begins, at, 0))
        firsts = np.flatnonzero(since % self._policy.one_in == 0)
        sizes = np.diff(firsts, append=len(order))
        weights = np.zeros(len(order), np.uint32)
        weights[order[firsts + self._rng.integers(0, sizes)]] = sizes
        return weights


def _rows(columns: Columns, which: npt.NDArray[Any]) -> Columns:
    return {name: values[which] for name, values in columns.items()}
