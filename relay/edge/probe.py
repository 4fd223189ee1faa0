"""Round trips between the edge and its transceivers, by a ping to each once a second; no calls are needed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from relay.edge.flows import Address
from relay.probe import NONCE_BYTES, ping, read_pong

PROBE_NS: Final = 1_000_000_000
"""Between two pings of one transceiver."""


class Trip(NamedTuple):
    """One round trip, at its answer's receive time; `region` is the transceiver's, None if not told."""

    at_ns: int
    rtt_ns: int
    region: str | None


class Prober:
    """Pings that wait for their answer: the last one of each transceiver. Belongs to the loop; not thread-safe.

    Args:
        keys: of the encapsulation headers, the one to sign with first.
        random_bytes: makes nonces (`os.urandom`).

    """

    def __init__(self, keys: Sequence[bytes], random_bytes: Callable[[int], bytes]) -> None:
        self._keys = tuple(keys)
        self._random_bytes = random_bytes
        self._asked: dict[Address, tuple[bytes, int]] = {}

    def pings(
        self, transceivers: Iterable[Address], now_ns: int, *, refusing: bool = False
    ) -> list[tuple[bytes, Address]]:
        """Return a ping for each; `now_ns` is UTC, as receive times are. Answers to earlier ones are late now.

        With `refusing` they say that this edge takes no new calls.
        """
        nonces = {address: self._random_bytes(NONCE_BYTES) for address in transceivers}
        self._asked = {address: (nonce, now_ns) for address, nonce in nonces.items()}
        return [(ping(nonce, self._keys[0], refusing=refusing), address) for address, nonce in nonces.items()]

    def answered(self, data: bytes, source: Address, at_ns: int) -> Trip | None:
        """Return the round trip that a pong ends; None if nobody was asked that, or twice the same.

        Raises:
            ProbeError: it is no pong of ours.

        """
        told = read_pong(data, self._keys)
        nonce, asked_ns = self._asked.get(source, (b"", 0))
        if nonce != told.nonce:
            return None
        del self._asked[source]
        # A clock that was set back meanwhile measures nothing.
        return Trip(at_ns, at_ns - asked_ns, told.region or None) if at_ns >= asked_ns else None
