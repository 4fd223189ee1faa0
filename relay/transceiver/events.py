"""The data channel `oai-events`: events of OpenAI's Realtime API both ways, one JSON object per message."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from relay.models import Event
from relay.transceiver.counters import Counters

LABEL: Final = "oai-events"

MESSAGE_CHARS_MAX: Final = 262_144
"""Instructions, tools and items with text fit in; recorded audio comes as media, not as an event."""

EVENTS_PER_S: Final = 50.0
BURST: Final = 200.0
WAITING_MAX: Final = 256
"""Events kept for a channel that is not open yet; the oldest give way."""

BUFFERED_BYTES_MAX: Final = 1_048_576
"""A client that does not take its events loses further ones."""


class NoEventError(ValueError):
    """A client's message is no event; the words say why."""


class EventsChannel:
    """Our end of one call's channel.

    Args:
        counters: where messages are counted by what became of them.
        on_event: takes each event of the client's.
        on_bad: told why a message was no event.

    """

    def __init__(
        self, counters: Counters, on_event: Callable[[dict[str, Any]], None], on_bad: Callable[[str], None]
    ) -> None:
        self._counters = counters
        self._on_event = on_event
        self._on_bad = on_bad
        self._channel: RTCDataChannel | None = None
        self._waiting: deque[str] = deque(maxlen=WAITING_MAX)
        self._allowance = BURST
        self._refilled = time.monotonic()

    def attach(self, channel: RTCDataChannel) -> None:
        """Use a channel that the client opened, if it is the one; the first of that name counts."""
        if channel.label != LABEL or self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self.received)
        while self._waiting:
            self._send(self._waiting.popleft())

    def tell(self, event: Event) -> None:
        """Send an event, now or when the channel opens."""
        text = json.dumps(event, separators=(",", ":"))
        if self._channel is None:
            self._waiting.append(text)
        else:
            self._send(text)

    def received(self, message: str | bytes) -> None:
        """Take a client's message."""
        if not self._allowed():
            self._counters.messages["too_many"] += 1
            return
        try:
            event = read_event(message)
        except NoEventError as error:
            self._counters.messages["bad"] += 1
            self._on_bad(str(error))
            return
        try:
            self._on_event(event)
        except RecursionError:  # nested as deep as a parser takes, which nothing honest is
            self._counters.messages["bad"] += 1
            return
        self._counters.messages["taken"] += 1

    def _send(self, text: str) -> None:
        channel = self._channel
        if channel is None or channel.bufferedAmount > BUFFERED_BYTES_MAX:
            self._counters.messages["not_sent"] += 1
            return
        try:
            channel.send(text)
        except (InvalidStateError, ConnectionError):
            self._counters.messages["not_sent"] += 1

    def _allowed(self) -> bool:
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._refilled) * EVENTS_PER_S)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def read_event(message: str | bytes) -> dict[str, Any]:
    """Return a message as an event: a JSON object with a `type`. Browsers may send it as binary, too.

    Raises:
        NoEventError: it is none.

    """
    if len(message) > MESSAGE_CHARS_MAX:
        raise NoEventError(f"an event has at most {MESSAGE_CHARS_MAX} characters")
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise NoEventError("an event is a JSON object; this is not JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise NoEventError("an event is a JSON object with a string `type`")
    return event
