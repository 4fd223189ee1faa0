"""The data channel `oai-events`: events of OpenAI's Realtime API both ways, one JSON object per message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from relay.models import Event
from relay.transceiver.counters import Counters
from relay.transceiver.textchannel import Bounds, TextChannel

LABEL: Final = "oai-events"

MESSAGE_CHARS_MAX: Final = 262_144
"""Instructions, tools and items with text fit in; recorded audio comes as media, not as an event."""

BOUNDS: Final = Bounds(per_s=50.0, burst=200.0, waiting=256, buffered_bytes=1_048_576)


class NoEventError(ValueError):
    """A client's message is no event; the words say why."""


class EventsChannel(TextChannel):
    """Our end of one call's channel.

    Args:
        counters: where messages are counted by what became of them.
        on_event: takes each event of the client's.
        on_bad: told why a message was no event.

    """

    def __init__(
        self, counters: Counters, on_event: Callable[[dict[str, Any]], None], on_bad: Callable[[str], None]
    ) -> None:
        super().__init__(LABEL, BOUNDS, counters)
        self._on_event = on_event
        self._on_bad = on_bad

    def tell(self, event: Event) -> None:
        """Send an event, now or when the channel opens."""
        self._tell(event)

    def _take(self, message: str | bytes) -> None:
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
