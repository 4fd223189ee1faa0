"""How far out of order packets came (RFC 4737)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Reordered(NamedTuple):
    """One reordered packet.

    Attributes:
        at: its place in the order of arrival, from 0.
        extent: places between it and the earliest packet that overtook it (§4.2.2).
        late_ns: time between the two (§4.3.2); None if no times were given.

    """

    at: int
    extent: int
    late_ns: int | None


def reordered(ext_seq: Sequence[int], arrival_ns: Sequence[int] | None = None) -> list[Reordered]:
    """Find the reordered packets of a series of extended sequence numbers in order of arrival, without duplicates.

    A packet is reordered if a higher number came before it (§3.3). Loss is not reordering.

    Args:
        ext_seq: extended sequence numbers, first copies only.
        arrival_ns: their times of arrival.

    """
    highest: list[int] = []  # running maximum, so that the first overtaker can be found by bisection
    found = []
    for at, seq in enumerate(ext_seq):
        if highest and seq < highest[-1]:
            overtaker = bisect_right(highest, seq)
            late_ns = None if arrival_ns is None else arrival_ns[at] - arrival_ns[overtaker]
            found.append(Reordered(at, at - overtaker, late_ns))
        highest.append(max(seq, highest[-1]) if highest else seq)
    return found
