"""One end of a data channel that carries JSON texts, bounded both ways: what a call's channels share."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from relay.transceiver.counters import Counters


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may do to a channel.

    Attributes:
        per_s: messages taken per second in the long run.
        burst: messages taken at once.
        waiting: messages to the client kept for a channel that is not open yet; the oldest give way.
        buffered_bytes: a client that leaves more than this untaken loses further messages.

    """

    per_s: float
    burst: float
    waiting: int
    buffered_bytes: int


class TextChannel(ABC):
    """Our end of one call's channel of one label.

    Args:
        label: the channel's name.
        bounds: of messages both ways.
        counters: where messages are counted by what became of them.

    """

    def __init__(self, label: str, bounds: Bounds, counters: Counters) -> None:
        self._label = label
        self._bounds = bounds
        self._counters = counters
        self._channel: RTCDataChannel | None = None
        self._waiting: deque[str] = deque(maxlen=bounds.waiting)
        self._allowance = bounds.burst
        self._refilled = time.monotonic()

    def attach(self, channel: RTCDataChannel) -> None:
        """Use a channel that the client opened, if it is the one: of those that are open, the first of that name."""
        if channel.label != self._label or (self._channel is not None and self._channel.readyState == "open"):
            return
        self._channel = channel
        channel.on("message", self.received)
        while self._waiting:
            self._send(self._waiting.popleft())

    def received(self, message: str | bytes) -> None:
        """Take a client's message, or count it as one too many."""
        if self._allowed():
            self._take(message)
        else:
            self._counters.messages["too_many"] += 1

    @abstractmethod
    def _take(self, message: str | bytes) -> None:
        """Read a message that may be taken, and count what became of it."""

    def _tell(self, message: object) -> None:
        """Send a message as JSON, now or when the channel opens."""
        text = json.dumps(message, separators=(",", ":"))
        if self._channel is None:
            self._waiting.append(text)
        else:
            self._send(text)

    def _send(self, text: str) -> None:
        channel = self._channel
        if channel is None or channel.bufferedAmount > self._bounds.buffered_bytes:
            self._counters.messages["not_sent"] += 1
            return
        try:
            channel.send(text)
        except (InvalidStateError, ConnectionError, ValueError):  # the last: larger than the client said it takes
            self._counters.messages["not_sent"] += 1

    def _allowed(self) -> bool:
        now = time.monotonic()
        self._allowance = min(self._bounds.burst, self._allowance + (now - self._refilled) * self._bounds.per_s)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
