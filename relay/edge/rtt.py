"""Round trips by pairing STUN requests with their answers as both pass by."""

from __future__ import annotations

from typing import Final

from relay.edge.flows import Address

_PENDING_MAX: Final = 8192
_RTT_MAX_NS: Final = 10_000_000_000  # an answer later than every retransmission (RFC 8489, section 6.2.1) is no RTT

_Key = tuple[str, Address, bytes]


class StunPairs:
    """Requests that wait for their answer: at most a few thousand, the oldest go first."""

    def __init__(self) -> None:
        self._pending: dict[_Key, int | None] = {}

    def request(self, leg: str, client: Address, transaction_id: bytes, at_ns: int) -> None:
        """Note a request that goes out over `leg`. A retransmitted one is marked: its answer could be to either."""
        key = (leg, client, transaction_id)
        if key in self._pending:
            self._pending[key] = None  # Karn's rule
            return
        if len(self._pending) >= _PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        self._pending[key] = at_ns

    def response(self, leg: str, client: Address, transaction_id: bytes, at_ns: int) -> int | None:
        """Return the round trip in ns that an answer ends, or None if it ends none that can be measured."""
        asked_ns = self._pending.pop((leg, client, transaction_id), None)
        if asked_ns is None or not 0 <= at_ns - asked_ns <= _RTT_MAX_NS:
            return None
        return at_ns - asked_ns
