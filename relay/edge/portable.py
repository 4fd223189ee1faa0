"""The portable way from socket to socket: one Python call per datagram, wherever Python runs."""

from __future__ import annotations

import selectors
import time
from collections import Counter
from typing import Final

from relay.edge.config import Limits
from relay.edge.io import UdpSocket
from relay.edge.router import Router

NAME: Final = "recvmsg"


class PortableForwarder:
    """Takes batches from both sockets and sends what the router makes of them."""

    name = NAME

    def __init__(self, public: UdpSocket, internal: UdpSocket, router: Router, limits: Limits) -> None:
        self._public, self._internal = public, internal
        self._router = router
        self._batch = limits.batch
        self._late_ns = int(limits.late_s * 1e9)
        self._selector = selectors.DefaultSelector()
        self._selector.register(public, selectors.EVENT_READ, self._up)
        self._selector.register(internal, selectors.EVENT_READ, self._down)
        self.behind = False
        """Whether the last turn left datagrams in a socket."""
        self._forwarded = [0, 0]

    def turn(self, timeout_s: float) -> None:
        """Wait at most so long, then forward one batch from each socket that has datagrams."""
        self.behind = False
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def overflowed(self) -> int:
        """Return datagrams that the kernel dropped before they were read."""
        return self._public.overflowed + self._internal.overflowed

    def messages_up(self) -> int:
        """Return the messages that datagrams on the way up were put into: one for each."""
        return self._forwarded[0]

    def refusals(self) -> dict[str, OSError]:
        """Return nothing: this way sends one by one and does not try otherwise."""
        return {}

    def forwarded(self) -> tuple[int, int]:
        """Return datagrams forwarded up and down: those that the kernel took."""
        up, down = self._forwarded
        return up, down

    def dropped(self) -> Counter[str]:
        """Return datagrams that went nowhere, by reason."""
        return Counter(self._router.dropped)

    def close(self) -> None:
        """Let go of the sockets, which stay open."""
        self._selector.close()

    def _up(self) -> None:
        batch = self._public.receive_batch(self._batch)
        self.behind |= len(batch) == self._batch
        out = self._router.up(batch, time.monotonic_ns(), time.time_ns() - self._late_ns)
        self._forwarded[0] += self._internal.send_batch(out)

    def _down(self) -> None:
        batch = self._internal.receive_batch(self._batch)
        self.behind |= len(batch) == self._batch
        out = self._router.down(batch, time.monotonic_ns(), time.time_ns() - self._late_ns)
        self._forwarded[1] += self._public.send_batch(out)
