"""Spans of time in which transceivers want a session's packets kept in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from relay.edge.moments import Sessions, Times
from relay.edge.sampling import Sampling
from relay.keep import KeepError, read_keep

_NS: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000


class Keeps:
    """One span a session, never longer than the policy allows. Belongs to the loop; not thread-safe.

    Args:
        policy: how far back and ahead may be asked for at most.
        keys: of the encapsulation headers.
        known: whether a session's packets come by here.
        sessions_max: spans held at most.

    """

    def __init__(
        self, policy: Sampling, keys: Sequence[bytes], known: Callable[[bytes], bool], sessions_max: int
    ) -> None:
        self._hold_ns = int(policy.hold_s * _NS)
        self._after_ns = int(policy.after_s * _NS)
        self._keys = tuple(keys)
        self._known = known
        self._sessions_max = sessions_max
        self._spans: dict[bytes, tuple[int, int]] = {}
        self.taken = 0
        """Keeps that were believed."""

    def take(self, data: bytes, at_ns: int) -> str | None:
        """Take a keep that arrived at `at_ns` (UTC) from an allowed transceiver; return why not, or None.

        One that was recorded names its own moment: soon after it changes nothing, later it is `stale_keep`.
        """
        try:
            keep = read_keep(data, self._keys)
        except KeepError:
            return "malformed_keep"
        if abs(keep.at_ns - at_ns) > self._hold_ns:
            return "stale_keep"
        if not self._known(keep.session_id):
            return "unknown_keep"
        begin_ns = keep.at_ns - min(keep.back_ms * _NS_PER_MS, self._hold_ns)
        end_ns = keep.at_ns + min(keep.ahead_ms * _NS_PER_MS, self._after_ns)
        span = self._spans.get(keep.session_id)
        if span is None and len(self._spans) >= self._sessions_max:
            return "full_keep"
        # Two spans apart become one with what is between them: more rows than asked for, never fewer.
        self._spans[keep.session_id] = (
            (begin_ns, end_ns)
            if span is None
            else (
                min(begin_ns, span[0]),
                max(end_ns, span[1]),
            )
        )
        self.taken += 1
        return None

    def spans(self) -> tuple[Sessions, Times, Times]:
        """Return sessions (uint8, n by 16), and the first and last instants to be kept."""
        sessions = np.frombuffer(b"".join(self._spans), np.uint8).reshape(-1, 16)
        times = np.array(list(self._spans.values()), np.int64).reshape(-1, 2)
        return sessions, times[:, 0], times[:, 1]

    def forget(self, end_ns: int) -> None:
        """Forget what no packet observed at or after `end_ns` lies in."""
        for session, (begin_ns, last_ns) in list(self._spans.items()):
            if last_ns < end_ns:
                del self._spans[session]
            elif begin_ns < end_ns:
                self._spans[session] = end_ns, last_ns
