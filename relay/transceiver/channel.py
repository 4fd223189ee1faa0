"""The data channel `sidetone`: what the client measured comes in, what the platform sees goes out, as JSON texts.

In: `{"type": "sidetone.stats" | "sidetone.playout", "client_ns": …, "kind": …, "stream": …, "values": {name: number}}`,
and `{"type": "sidetone.ping", "client_ns": …}`.
Out: `{"type": "sidetone.session", …}` once, then `{"type": "sidetone.turn", …}` for every turn fact, and to each ping
at once `{"type": "sidetone.pong", "client_ns": …, "server_ns": …}`, so that clients can compare clocks with us.

A client may send anything: what is not such a message, or too much of it, is counted and forgotten.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any, Final

from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.textchannel import Bounds, TextChannel

LABEL: Final = "sidetone"
MESSAGE_CHARS_MAX: Final = 16_384
BURST: Final = 100.0
BOUNDS: Final = Bounds(per_s=20.0, burst=BURST, waiting=64, buffered_bytes=262_144)
VALUES_MAX: Final = 200
NAME_CHARS_MAX: Final = 64

_PING: Final = "sidetone.ping"
_KINDS: Final = {"sidetone.stats": None, "sidetone.playout": "playout", _PING: None}
_CLIENT_NS_MAX: Final = 1 << 62
_SSRC_MAX: Final = 0xFFFFFFFF


class BadMessageError(ValueError):
    """A client's message is not one of ours."""


class ClientChannel(TextChannel):
    """Our end of one call's channel."""

    def __init__(self, facts: SessionFacts, counters: Counters) -> None:
        super().__init__(LABEL, BOUNDS, counters)
        self._facts = facts

    def tell(self, kind: str, /, **values: object) -> None:
        """Send `{"type": kind, …values}`, now or when the channel opens."""
        self._tell({"type": kind, **values})

    def _take(self, message: str | bytes) -> None:
        now_ns = time.time_ns()
        try:
            parsed = _parse(message)
            if parsed["type"] == _PING:
                return self.tell(
                    "sidetone.pong", client_ns=_whole(parsed.get("client_ns"), _CLIENT_NS_MAX), server_ns=now_ns
                )
            client_ns, kind, stream, values = _interpreted(parsed)
        except BadMessageError:
            self._counters.messages["bad"] += 1
            return None
        self._counters.messages["taken"] += 1
        self._facts.client(client_ns, kind, stream, values)
        return None


def read_message(message: str | bytes) -> tuple[int | None, str, int | None, dict[str, float]]:
    """Return client_ns, kind, stream and values of a client's message.

    Values that are no finite numbers are left out, as W3C statistics have strings among them.

    Raises:
        BadMessageError: it is not of the form that this module describes.

    """
    return _interpreted(_parse(message))


def _parse(message: str | bytes) -> dict[str, Any]:
    if not isinstance(message, str) or len(message) > MESSAGE_CHARS_MAX:
        raise BadMessageError("not a text of acceptable length")
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise BadMessageError("not JSON") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("type"), str) or parsed["type"] not in _KINDS:
        raise BadMessageError("not a message of ours")
    return parsed


def _interpreted(parsed: dict[str, Any]) -> tuple[int | None, str, int | None, dict[str, float]]:
    kind = _KINDS[parsed["type"]] or parsed.get("kind")
    if not isinstance(kind, str) or not 0 < len(kind) <= NAME_CHARS_MAX or not kind.isascii():
        raise BadMessageError("no kind")
    values = parsed.get("values")
    if not isinstance(values, dict) or len(values) > VALUES_MAX:
        raise BadMessageError("no values")
    numbers = {name: float(value) for name, value in values.items() if len(name) <= NAME_CHARS_MAX and _number(value)}
    return _whole(parsed.get("client_ns"), _CLIENT_NS_MAX), kind, _whole(parsed.get("stream"), _SSRC_MAX), numbers


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _whole(value: Any, largest: int) -> int | None:
    if value is None:
        return None
    if not _number(value) or not 0 <= value <= largest:
        raise BadMessageError("client_ns or stream is out of range")
    return int(value)
