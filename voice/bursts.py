"""Where losses and discards cluster: bursts and gaps (RFC 3611 §4.7.2).

Two forms. `cluster` applies the definition to a whole series and is the one to show. `xr_metrics` is the counting of
appendix A.2, needed by whoever writes an XR report block; it is off at the ends of a stream, so the two differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

GMIN: Final = 16
"""RFC 3611 §4.7.2: received packets in a row that end a burst."""

_WIRE_ONE: Final = 256  # RFC 3611 §4.7.1: rates and densities are fractions times 256, cut at 255
_WIRE_MAX: Final = 255


class Fate(IntEnum):
    """What became of one expected packet."""

    RECEIVED = 0
    LOST = 1
    DISCARDED = 2


@dataclass(frozen=True, slots=True)
class Clusters:
    """Bursts and gaps of a series, in packets.

    Attributes:
        bursts: (first packet, length) of each run that begins and ends with a bad packet, holds at least two of them
            and no `gmin` good ones in a row.
        gaps: the same of everything between; isolated bad packets lie in gaps.
        bad_in_bursts: lost or discarded packets in bursts.
        bad_in_gaps: and in gaps.

    """

    bursts: tuple[tuple[int, int], ...]
    gaps: tuple[tuple[int, int], ...]
    bad_in_bursts: int
    bad_in_gaps: int

    @property
    def burst_density(self) -> float | None:
        """Share of bad packets in bursts; None without bursts."""
        return _share(self.bad_in_bursts, self.bursts)

    @property
    def gap_density(self) -> float | None:
        """Share of bad packets in gaps; None without gaps."""
        return _share(self.bad_in_gaps, self.gaps)


def cluster(series: Sequence[Fate], gmin: int = GMIN) -> Clusters:
    """Split a series of expected packets, in sequence order, into bursts and gaps.

    Raises:
        ValueError: gmin is less than 1.

    """
    if gmin < 1:
        raise ValueError(f"gmin {gmin} must be at least 1")
    groups: list[list[int]] = []
    for at, fate in enumerate(series):
        if fate is Fate.RECEIVED:
            continue
        if groups and at - groups[-1][-1] - 1 < gmin:
            groups[-1].append(at)
        else:
            groups.append([at])
    found = [group for group in groups if len(group) > 1]
    bursts = tuple((group[0], group[-1] - group[0] + 1) for group in found)
    gaps = []
    start = 0
    for first, length in (*bursts, (len(series), 0)):
        if first > start:
            gaps.append((start, first - start))
        start = first + length
    bad_in_bursts = sum(len(group) for group in found)
    return Clusters(bursts, tuple(gaps), bad_in_bursts, sum(len(group) for group in groups) - bad_in_bursts)


@dataclass(frozen=True, slots=True)
class XrMetrics:
    """Fields of a VoIP metrics report block as they go on the wire: fractions in 1/256, durations in ms."""

    loss_rate: int
    discard_rate: int
    burst_density: int
    gap_density: int
    burst_ms: int
    gap_ms: int


@dataclass(slots=True)
class _Counters:
    """RFC 3611 A.2: c11 … c33 count transitions between the four states of its Markov model."""

    c11: int = 0  # good packets in gaps
    c13: int = 0  # gap to burst
    c14: int = 0  # isolated losses
    c22: int = 0  # good packets in bursts, but for the first of each run
    c23: int = 0  # good to bad within bursts
    c33: int = 0  # bad to bad


def xr_metrics(series: Sequence[Fate], packet_ms: float, gmin: int = GMIN) -> XrMetrics:
    """Compute a report block's fields over a series by the counters of RFC 3611 A.2.

    The count starts as if inside a gap, after an isolated loss, so that a stream's first loss is not taken for the end
    of a burst.
    """
    counters = _Counters()
    good, bad_run = 0, 1
    for fate in series:
        if fate is Fate.RECEIVED:
            good += 1
            continue
        if good >= gmin:
            if bad_run == 1:
                counters.c14 += 1
            else:
                counters.c13 += 1
            bad_run = 1
            counters.c11 += good
        else:
            bad_run += 1
            if good:
                counters.c23 += 1
                counters.c22 += good - 1
            else:
                counters.c33 += 1
        good = 0
    return _fields(counters, series, packet_ms)


def _fields(counters: _Counters, series: Sequence[Fate], packet_ms: float) -> XrMetrics:
    c11, c13, c14, c22, c23, c33 = (
        counters.c11,
        counters.c13,
        counters.c14,
        counters.c22,
        counters.c23,
        counters.c33,
    )
    c31, c32 = c13, c23
    left_burst = c31 + c32 + c33
    p32 = c32 / left_burst if left_burst else 0.0
    p23 = 1.0 - c22 / (c22 + c23) if c22 + c23 else 1.0
    gap_ms = (c11 + c14 + c13) * packet_ms / c13 if c13 else len(series) * packet_ms
    burst_ms = (c11 + c14 + c13 + c22 + c23 + c31 + c32 + c33) * packet_ms / c13 - gap_ms if c13 else 0.0
    total = max(1, len(series))
    return XrMetrics(
        loss_rate=_wire(sum(fate is Fate.LOST for fate in series) / total),
        discard_rate=_wire(sum(fate is Fate.DISCARDED for fate in series) / total),
        burst_density=_wire(p23 / (p23 + p32)) if c13 else 0,
        gap_density=_wire(c14 / (c11 + c14)) if c11 + c14 else 0,
        burst_ms=int(burst_ms),
        gap_ms=int(gap_ms),
    )


def _share(bad: int, runs: tuple[tuple[int, int], ...]) -> float | None:
    packets = sum(length for _, length in runs)
    return bad / packets if packets else None


def _wire(fraction: float) -> int:
    return min(_WIRE_MAX, int(fraction * _WIRE_ONE))
