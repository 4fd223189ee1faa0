"""What may be sent to an address that has not shown that what is sent there arrives.

A connectivity check is signed but can be recorded and sent again from a forged source: answering it with an answer and
a check of our own, seven times repeated, would turn 104 bytes into 764 at somebody who asked for nothing. So an address
gets no more than it sent until it has answered a check of ours, whose transaction id only its holder can know. Our
check goes first, as its answer is the proof; the answer to the address's own check follows then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

Client = tuple[str, int]

ADDRESSES_MAX: Final = 32
"""Remembered per call: those proven, and those not. The one unused longest goes first."""


class Reach:
    """The addresses of one call."""

    def __init__(self) -> None:
        self._proven: OrderedDict[Client, None] = OrderedDict()
        self._credit: OrderedDict[Client, int] = OrderedDict()
        self._held: dict[Client, bytes] = {}
        self.withheld = 0

    def heard(self, client: Client, size: int) -> None:
        """Note that a signed request of so many bytes came from an address."""
        if client in self._proven:
            return
        self._credit[client] = self._credit.pop(client, 0) + size
        if len(self._credit) > ADDRESSES_MAX:
            oldest, _ = self._credit.popitem(last=False)
            self._held.pop(oldest, None)

    def prove(self, client: Client) -> bytes | None:
        """Note that an address answered a check that was sent to it; return the answer that it still has to get."""
        self._credit.pop(client, None)
        self._proven[client] = None
        self._proven.move_to_end(client)
        if len(self._proven) > ADDRESSES_MAX:
            self._proven.popitem(last=False)
        return self._held.pop(client, None)

    def may_send(self, client: Client, data: bytes, *, is_answer: bool) -> bool:
        """Whether this may be sent to an address now; an answer is kept until the address is proven, the last one."""
        if client in self._proven:
            return True
        if is_answer:
            if client in self._credit:
                self._held[client] = data
            return False
        credit = self._credit.get(client, 0)
        if len(data) > credit:
            self.withheld += 1
            return False
        self._credit[client] = credit - len(data)
        return True
