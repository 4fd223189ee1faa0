"""The WebSocket to a Realtime API: connected again when it breaks, with a bounded queue and a key that nobody sees."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from relay.models.protocol import Event

QUEUE_MAX: Final = 1_000
"""Events that wait to be sent; 20 s of the user's voice. Beyond that the oldest voice gives way."""

MESSAGE_BYTES_MAX: Final = 4 * 2**20
"""Of one event of the server's; a second of its audio has 64 kB."""

CONNECT_S: Final = 10.0
ATTEMPTS_MAX: Final = 6
"""In a row without a connection; then the call has no model any more."""

BACKOFF_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RETRY_AFTER_MAX_S: Final = 30.0
CLOSE_S: Final = 1.0
STABLE_S: Final = 5.0
"""A connection that lasted longer was one; a shorter one counts as another failed attempt."""

_REFUSED: Final = (400, 401, 403, 404)
_RATE_LIMITED: Final = 429

_log = structlog.get_logger(__name__)

_SILENT: Final = logging.getLogger("sidetone.openai_link")
"""The WebSocket library's own log would have the request's headers in it, and the key with them."""
_SILENT.setLevel(logging.CRITICAL)

State = Literal["idle", "connecting", "open", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is and who asks for it. The key appears in no text that is made of this.

    Attributes:
        url: `ws://` or `wss://`, with the model's name in the query.
        key: bearer token, or None for a server that wants none.

    """

    url: str
    key: str | None

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Endpoint({self.url!r})"


class Link:
    """Keeps a connection for the length of a call.

    Args:
        endpoint: where to connect.
        on_open: called on each new connection with whether there was one before; what it returns is sent first.
        on_event: called with every event, in order.
        on_lost: called when a connection is lost, or none can be had any more; with what is wrong.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_open: Callable[[bool], Sequence[Event]],
        on_event: Callable[[dict[str, Any]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.state: State = "idle"
        self.problem: str | None = None
        self.counts: Counter[str] = Counter()
        self._endpoint = endpoint
        self._on_open = on_open
        self._on_event = on_event
        self._on_lost = on_lost
        self._queue: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self.state = "connecting"
        self._task = asyncio.get_running_loop().create_task(self._run(), name="realtime model")

    def send(self, event: Event) -> None:
        """Send an event, now or once there is a connection. Never blocks."""
        if self.state in ("failed", "closed"):
            self.counts["not_sent"] += 1
            return
        if len(self._queue) >= QUEUE_MAX:
            self._make_room()
        self._queue.append(event)
        self._ready.set()

    def waiting(self, kind: str) -> int:
        """Return how many events of a type wait to be sent."""
        return sum(event["type"] == kind for event in self._queue)

    async def opened(self, timeout_s: float) -> bool:
        """Wait until there is a connection; False if there is none in time, or will be none."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.state not in ("idle", "connecting"))
        except TimeoutError:
            pass
        return self.state == "open"

    async def aclose(self) -> None:
        """Close the connection, or give up connecting."""
        self.state = "closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _make_room(self) -> None:
        self.counts["overflow"] += 1
        for at, waiting in enumerate(self._queue):
            if waiting["type"] == "input_audio_buffer.append":
                del self._queue[at]
                return
        self._queue.popleft()

    async def _run(self) -> None:
        attempts = 0
        while attempts < ATTEMPTS_MAX and self.state == "connecting":
            wait_s = BACKOFF_S[attempts] * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, keeps no secret
            try:
                attempts += 1
                async with connect(
                    self._endpoint.url,
                    additional_headers=_headers(self._endpoint.key),
                    open_timeout=CONNECT_S,
                    close_timeout=CLOSE_S,
                    max_size=MESSAGE_BYTES_MAX,
                    compression=None,
                    logger=_SILENT,
                ) as connection:
                    since = time.monotonic()
                    await self._hold(connection)
                    if time.monotonic() - since > STABLE_S:
                        attempts = 0
                self.problem = "the model closed the connection"
            except InvalidStatus as error:
                status = error.response.status_code
                if status in _REFUSED:
                    return await self._become("failed", _REFUSALS.get(status, f"the model refuses us (HTTP {status})"))
                self.problem = f"the model answers HTTP {status}"
                if status == _RATE_LIMITED:
                    self.counts["rate_limited"] += 1
                    wait_s = max(wait_s, _retry_after_s(error.response.headers))
            except (OSError, TimeoutError, WebSocketException) as error:
                self.problem = f"the connection to the model failed ({type(error).__name__})"
            await self._become("connecting", self.problem)
            _log.warning("no connection to the voice model", problem=self.problem, attempt=attempts)
            await asyncio.sleep(wait_s)
        return await self._become("failed", f"{self.problem}; {ATTEMPTS_MAX} attempts were made")

    async def _hold(self, connection: ClientConnection) -> None:
        again = self.counts["connections"] > 0
        self.counts["connections"] += 1
        self._queue.extendleft(reversed(self._on_open(again)))
        await self._become("open", None)
        sending = asyncio.get_running_loop().create_task(self._send_all(connection))
        try:
            async for message in connection:
                self._received(message)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()  # the connection's end, which the reader has seen, too

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            while self._queue:
                event = self._queue.popleft()
                await connection.send(json.dumps(event, separators=(",", ":")))
            self._ready.clear()
            await self._ready.wait()

    def _received(self, message: str | bytes) -> None:
        try:
            event = json.loads(self._without_key(message))
            if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                raise TypeError("not an event")  # noqa: TRY301 - counted with the others
            self._on_event(event)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            self.counts["malformed"] += 1

    def _without_key(self, message: str | bytes) -> str:
        """Return a message's text without our key: what a server repeats would get into facts and to the client."""
        text = message if isinstance(message, str) else message.decode()
        key = self._endpoint.key
        return text.replace(key, "…") if key else text

    async def _become(self, state: State, problem: str | None) -> None:
        if self.state == "closed":
            return
        async with self._changed:
            self.state = state
            self.problem = problem
            self._changed.notify_all()
        if problem is not None:
            self._on_lost(problem)


_REFUSALS: Final = {
    401: "the model refuses the key (HTTP 401): check SIDETONE_OPENAI_API_KEY or OPENAI_API_KEY, or the caller's token",
    403: "the key may not use this model (HTTP 403)",
    404: "there is no such model at that URL (HTTP 404): check SIDETONE_OPENAI_MODEL and SIDETONE_OPENAI_URL",
}


def _headers(key: str | None) -> Mapping[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _retry_after_s(headers: Mapping[str, str]) -> float:
    try:
        asked_s = float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0  # a date is allowed, too (RFC 9110, section 10.2.3); the backoff has to do
    return min(max(0.0, asked_s), RETRY_AFTER_MAX_S)
