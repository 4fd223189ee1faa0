"""From a batch in the order of capture to chunks: sorted, every row's identity unique, one partition each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eventlog.codec import ChunkError, encode
from eventlog.partitioner import partition_for
from eventlog.schema import TIME, FactType

Ints: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]

_pc: Final[Any] = pc
_pa: Final[Any] = pa  # column types are known at run time only, the stubs want them at check time
_HISTORY_ROWS: Final = 262_144
"""How far back a row's identity is compared with those sent before: rows, per fact type."""

_SMALL_MOVES: Final = 8
_FAR: Final = 1 << 62
_TARGET_BYTES: Final = 900_000
"""Chunks are split above this: a broker's default limit is 1 MiB with headers."""


class Sorter:
    """Makes the chunks of one fact type, in one thread. Remembers what it sent lately, to keep identities unique."""

    def __init__(self, fact: FactType) -> None:
        self._fact = fact
        self._sent: deque[tuple[int, Ints, Ints]] = deque()  # (latest observed_ns, observed_ns, keys) per batch
        self._remembered = 0

    def chunks(self, batch: pa.RecordBatch, partitions: int, chunk_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Sort a batch by the type's order and yield it as `(partition, rows)`, at most `chunk_rows` each.

        Where rows have an equal identity, the later ones' `observed_ns` is moved on by a step of the type's each: a
        single time between two steps would keep the store from packing a whole block of them.
        """
        columns = [batch.column(name) for name in self._fact.order[:-1]]
        observed = np.asarray(batch.column("observed_ns").cast(pa.int64()))
        starts = _runs(columns)
        runs = np.diff(starts, append=batch.num_rows)
        if len(starts) < batch.num_rows:
            columns = [column.take(_pa.array(starts)) for column in columns]
        codes = [_Codes(column) for column in columns]
        group, key = (np.repeat(values, runs) for values in _combined(codes, len(starts)))
        sorts = _order(group, observed)
        if sorts is not None:
            group, key, observed = group[sorts], key[sorts], observed[sorts]
        unique = self._unique(group, key, observed)
        at = self._fact.schema.get_field_index("observed_ns")
        for partition, which in self._split(codes[0], runs, sorts, partitions):
            # One copy of each row at most: what sorts the rows also tells the partitions apart.
            rows = batch
            if sorts is not None:
                rows = batch.take(_pa.array(sorts[which]))
            elif isinstance(which, np.ndarray):
                rows = batch.take(_pa.array(which))
            if unique is not observed:
                rows = rows.set_column(at, self._fact.schema.field(at), _pa.array(unique[which], type=TIME))
            for start in range(0, rows.num_rows, chunk_rows):
                yield partition, rows.slice(start, chunk_rows)

    @staticmethod
    def _split(sessions: _Codes, runs: Ints, sorts: Ints | None, partitions: int) -> Iterator[tuple[int, Ints | slice]]:
        """Yield each partition that has rows, with their places among the sorted ones."""
        if partitions == 1:
            yield 0, slice(None)
            return
        of_session = np.array([partition_for(value, partitions) for value in sessions.values.to_pylist()])
        of_row = np.repeat(of_session[sessions.index], runs)
        if sorts is not None:
            of_row = of_row[sorts]
        for partition in np.unique(of_session).tolist():
            which = np.flatnonzero(of_row == partition)
            if len(which):
                yield partition, which

    def _unique(self, group: Ints, key: Ints, observed: Ints) -> Ints:
        """Return times so that no `(key, time)` is there twice, in this batch or the ones before."""
        times = _spread(group, observed, self._fact.step_ns)
        earliest = int(times.min())
        overlapping = [(t[t >= earliest], k[t >= earliest]) for latest, t, k in self._sent if latest >= earliest]
        if overlapping:
            sent_times = np.concatenate([t for t, _ in overlapping])
            sent_keys = np.concatenate([k for _, k in overlapping])
            times = _avoid(group, key, times, (sent_keys, sent_times), self._fact.step_ns)
        self._sent.append((int(times.max()), times, key))
        self._remembered += len(times)
        while self._remembered > _HISTORY_ROWS and len(self._sent) > 1:
            self._remembered -= len(self._sent.popleft()[1])
        return times


def encoded(fact: FactType, batch: pa.RecordBatch) -> Iterator[tuple[int, bytes]]:
    """Yield `(rows, chunk)`, halving the batch until each chunk is of a size that a broker takes.

    A single row that is too large for any chunk is yielded with no bytes.
    """
    try:
        data = encode(fact, batch)
    except ChunkError as error:
        if error.reason != "too_large":
            raise
        data = b""
    if batch.num_rows > 1 and (not data or len(data) > _TARGET_BYTES):
        half = batch.num_rows // 2
        yield from encoded(fact, batch.slice(0, half))
        yield from encoded(fact, batch.slice(half))
    else:
        yield batch.num_rows, data


class _Codes:
    """A column as indices into its distinct values, with the values' rank and hash."""

    def __init__(self, column: Any) -> None:
        distinct = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        self.index: Ints = np.asarray(distinct.indices)
        self.values: Any = distinct.dictionary

    def __len__(self) -> int:
        return len(self.values)

    def ranks(self) -> Ints:
        ranks = np.empty(len(self.values), np.int64)
        ranks[np.asarray(pc.sort_indices(self.values))] = np.arange(len(self.values))
        return ranks[self.index]

    def hashes(self) -> Ints:
        """Hash of each row's value, the same in all batches of this process."""
        if pa.types.is_integer(self.values.type):
            return np.asarray(self.values.cast(pa.int64(), safe=False)).view(np.uint64)[self.index]
        return np.array([hash(value) for value in self.values.to_pylist()], np.int64).view(np.uint64)[self.index]


def _combined(codes: list[_Codes], rows: int) -> tuple[Ints, Ints]:
    """Return per row the rank among the batch's keys, and the key's hash."""
    group, key = np.zeros(rows, np.int64), np.zeros(rows, np.uint64)
    for code in codes:
        group = group * len(code) + code.ranks()
        key = _mix(key, code.hashes())
    return group, key


def _mix(first: Ints, second: Ints) -> Ints:
    """Mix two 64-bit numbers (splitmix64's constants)."""
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second.view(np.uint64)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))


def _runs(columns: list[Any]) -> Ints:
    """Return where rows begin that differ from the one before in any of the columns: packets come in long runs."""
    rows = len(columns[0])
    differs = np.zeros(rows, np.bool_)
    differs[:1] = True
    for column in columns:
        values = column.indices if pa.types.is_dictionary(column.type) else column
        differs[1:] |= np.asarray(_pc.not_equal(values.slice(1), values.slice(0, rows - 1)))
    return np.flatnonzero(differs)


def _order(group: Ints, observed: Ints) -> Ints | None:
    """Return the stable order by group, then time; None if the rows are in it."""
    same = group[1:] == group[:-1]
    if np.all((group[1:] > group[:-1]) | (same & (observed[1:] >= observed[:-1]))):
        return None
    if int(group.max()) < 1 << 16:
        group = group.astype(np.uint16)  # numpy sorts 16 bits by radix
    order = np.argsort(group, kind="stable")
    sorted_group, times = group[order], observed[order]
    if np.all((times[1:] >= times[:-1]) | (sorted_group[1:] != sorted_group[:-1])):
        return order  # each group came in the order of its times, as nearly always
    by_time = np.argsort(observed, kind="stable")
    return by_time[np.argsort(group[by_time], kind="stable")]


def _spread(group: Ints, times: Ints, step_ns: int) -> Ints:
    """Move equal times of one group a step apart; both come sorted. Returns `times` itself if none are equal."""
    same = group[1:] == group[:-1]
    tied = same & (times[1:] <= times[:-1])
    if not tied.any():
        return times
    begins = np.concatenate([[True], ~same])
    starts = np.flatnonzero(begins)
    which = np.cumsum(begins) - 1  # each row's group, from 0
    concerned = np.flatnonzero(np.logical_or.reduceat(np.concatenate([[False], tied]), starts)[which])
    which, moved = which[concerned], times[concerned]
    # Groups are laid one behind the other with room between, so that one pass over all of them does.
    first, steps = int(moved.min()), np.arange(len(moved)) * step_ns
    room = int(moved.max()) - first + (len(moved) + 1) * step_ns
    if room * (int(which[-1]) + 1) < _FAR:
        along = which * room - first - steps
        times = times.copy()
        times[concerned] = np.maximum.accumulate(moved + along) - along
        return times
    times = times.copy()
    ends = np.append(starts[1:], len(times))
    for one in np.unique(which).tolist():
        part = slice(int(starts[one]), int(ends[one]))
        steps = np.arange(part.stop - part.start) * step_ns
        times[part] = np.maximum.accumulate(times[part] - steps) + steps
    return times


def _avoid(group: Ints, key: Ints, times: Ints, sent: tuple[Ints, Ints], step_ns: int) -> Ints:
    """Move rows on whose identity was sent before: by a step, or behind all of their key if that goes on."""
    taken, latest = np.sort(_mix(*sent)), int(sent[1].max())
    for attempt in range(len(times) + _SMALL_MOVES + 1):
        near = np.flatnonzero(times <= latest)
        clashes = near[_contains(taken, _mix(key[near], times[near]))]
        if not len(clashes):
            break
        times = times.copy()
        if attempt < _SMALL_MOVES:
            times[clashes] += step_ns
        else:
            for row in clashes.tolist():
                times[row] = max(times[row], sent[1][sent[0] == key[row]].max(initial=0)) + step_ns
        times = _spread(group, times, step_ns)
    return times


def _contains(ordered: Ints, values: Ints) -> Ints:
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values  # type: ignore[no-any-return]
