"""What the address of a page says: the window, the regions, the call. A copied address shows the same view."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from analytics.parameters import time_ns

RANGES: Final = {"15m": 900, "1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800}
"""Windows that end now, in seconds."""

SLICES: Final = {"15m": 30, "1h": 120, "6h": 600, "24h": 1_800, "7d": 14_400}
"""Length of a slice of the charts over time, in seconds."""

DEFAULT_RANGE: Final = "1h"
_STEP_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """The window of time that a page shows.

    Attributes:
        from_ns: start, inclusive.
        to_ns: end, exclusive.
        slice_s: length of a slice of the charts over time.
        live: it ends now and moves on.

    """

    from_ns: int
    to_ns: int
    slice_s: int
    live: bool


def relative(range_name: str, now_ns: int) -> Window:
    """Return the window of a named range that ends now.

    It ends with the minute that now lies in, so that everyone who looks within it asks the same questions and shares
    the answers; and on whole minutes, because the ragged edges of a window are summed by the second, at a price.
    """
    name = range_name if range_name in RANGES else DEFAULT_RANGE
    to_ns = (now_ns // _STEP_NS + 1) * _STEP_NS
    return Window(to_ns - RANGES[name] * 1_000_000_000, to_ns, SLICES[name], live=True)


def window(range_name: str, start: str | None, end: str | None) -> Window:
    """Return the window that the address names: `from` and `to` if both are given, or else the range.

    Raises:
        ValueError: `from` or `to` is not a time, or they are the wrong way round.

    """
    now_ns = time.time_ns()
    if not (start and end):
        return relative(range_name, now_ns)
    from_ns, to_ns = time_ns(start, now_ns), time_ns(end, now_ns)
    if from_ns >= to_ns:
        raise ValueError(f"from ({start}) must lie before to ({end})")
    return Window(from_ns, to_ns, 0, live=False)
