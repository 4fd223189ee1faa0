"""The trace that a request belongs to: the headers of W3C Trace Context (Recommendation of 23 November 2021)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
TRACESTATE_CHARS_MAX: Final = 512
"""What section 3.3.1.5 wants propagated at least; a longer one is left out."""

_PARENT_CHARS_MAX: Final = 256
# Section 3.2: version, trace id, parent id, flags, in lower case; a later version may have more behind them.
_PARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def parent_of(headers: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Return the request's trace as attributes of its call: `traceparent`, and `tracestate` if there is one.

    Empty if the request belongs to none, or its header is malformed: then the standard has a trace begin here (section
    4.3), and `tracestate` counts for nothing without the other.

    Args:
        headers: returns all values of the headers of a name.

    """
    parents = [value.strip(" \t") for value in headers(TRACEPARENT)]
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 and len(parents[0]) <= _PARENT_CHARS_MAX else None
    if found is None or (found[1] == "00" and found[2]):
        return {}
    state = ",".join(headers(TRACESTATE))  # section 3.3: several are one, in their order
    if not 0 < len(state) <= TRACESTATE_CHARS_MAX or not state.isascii() or not state.isprintable():
        return {TRACEPARENT: parents[0]}
    return {TRACEPARENT: parents[0], TRACESTATE: state}
