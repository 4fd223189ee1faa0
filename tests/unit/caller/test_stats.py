"""What a caller says that it waited for an answer: only where it had stopped to speak."""

from __future__ import annotations

import json

import pytest

from relay.caller.stats import playout

MS = 1_000_000
HEARD_NS = 1_800_000_000_000_000_000


@pytest.mark.parametrize(
    ("silent_ms", "waited_ms"),
    [(None, None), (-5, None), (28, None), (199, None), (200, 200.0), (930, 930.0)],
    ids=["never spoke", "speaking", "between words", "shorter than a pause", "paused", "waited"],
)
def test_the_wait_counts_from_where_speech_has_ended(silent_ms: int | None, waited_ms: float | None) -> None:
    spoke_ns = None if silent_ms is None else HEARD_NS - silent_ms * MS
    told = json.loads(playout(HEARD_NS, 1, spoke_ns=spoke_ns, playout_delay_ms=None, clock=None))
    assert told["values"].get("heard_delay_ms") == waited_ms
