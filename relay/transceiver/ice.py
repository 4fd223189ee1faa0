"""ICE over a socket that all sessions share: aioice's agent, given a component that is no socket of its own.

aioice opens a socket per component. Here the component is virtual: its one candidate is the edge's public address, what
it sends goes out through the transceiver's wire, and what it receives the demultiplexer has already authenticated.
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import Callable
from typing import Any, Final, cast

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol
from aiortc import RTCIceGatherer

from relay.transceiver.reach import Reach

PASSWORD_CHARS: Final = 24
"""144 bits; RFC 8445, section 5.3 asks for 22 characters and 128 bits of randomness."""

REMOTE_CANDIDATES_MAX: Final = 16
"""Addresses from which one client is checked once it is connected; the oldest that proved nothing makes place."""

REMOTE_CANDIDATES_BEFORE: Final = 4
"""The same until it is connected, when all of them are checked at once; as many as an edge gives one ufrag flows."""

QUEUED_DATAGRAMS_MAX: Final = 256
"""DTLS records of one session waiting for its task. A handshake has about ten, a data channel burst some dozens."""

_COMPONENT: Final = 1
_ICE_CHARS: Final = string.ascii_letters + string.digits + "+/"

Client = tuple[str, int]
Send = Callable[[bytes, Client], None]
OnRoundTrip = Callable[[int], None]
"""Takes a round-trip time in nanoseconds."""


def password() -> str:
    """Return a new ICE password."""
    return "".join(secrets.choice(_ICE_CHARS) for _ in range(PASSWORD_CHARS))


class _Component(StunProtocol):
    """aioice's STUN endpoint without a socket; it also times the agent's own checks."""

    def __init__(
        self, receiver: SharedConnection, candidate: Candidate, send: Send, on_round_trip: OnRoundTrip
    ) -> None:
        super().__init__(receiver)
        self.local_candidate = candidate
        self.reach = Reach()
        self._connection = receiver
        self._send = send
        self._on_round_trip = on_round_trip
        self._sent: dict[bytes, tuple[Client, int]] = {}
        self.connection_made(cast("asyncio.BaseTransport", _VirtualTransport(self, send)))

    def send_stun(self, message: stun.Message, addr: Client) -> None:
        """Send a message if the address may have it, noting when a request left."""
        data = bytes(message)
        is_request = message.message_class is stun.Class.REQUEST
        # Until the call is connected a client's few addresses are checked freely, so that it connects at once.
        free = self._connection.remote in (None, addr)
        if not free and not self.reach.may_send(addr, data, is_answer=not is_request):
            return
        if is_request:
            # Karn: what was sent twice cannot be timed, as nobody knows which copy was answered.
            again = message.transaction_id in self._sent
            self._sent[message.transaction_id] = addr, 0 if again else time.time_ns()
        self._send(data, addr)

    async def request(
        self,
        request: stun.Message,
        addr: Client,
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, Client]:
        """Run a transaction."""
        try:
            return await super().request(request, addr, integrity_key, retransmissions)
        finally:
            self._sent.pop(request.transaction_id, None)

    def asked(self, message: stun.Message, client: Client, remote_key: bytes) -> bool:
        """Whether a response is to a request that went to an address, and is signed with the client's password."""
        asked, _ = self._sent.get(message.transaction_id, (None, 0))
        return asked == client and bool(message.check_message_integrity(remote_key))

    def received(self, message: stun.Message, client: Client, arrival_ns: int, remote_key: bytes) -> None:
        """Take a message: a request that passed authentication, or anything else, which is checked here."""
        if message.message_class is stun.Class.REQUEST:
            self.reach.heard(client, len(bytes(message)))
            self.receiver.request_received(message, client, self)
        elif message.message_class in (stun.Class.RESPONSE, stun.Class.ERROR):
            transaction = self.transactions.get(message.transaction_id)
            if transaction is None or not message.check_message_integrity(remote_key):
                return
            asked, sent_ns = self._sent.get(message.transaction_id, (None, 0))
            if 0 < sent_ns < arrival_ns and message.message_class is stun.Class.RESPONSE:
                self._on_round_trip(arrival_ns - sent_ns)
            # An answer from elsewhere says nothing about where it comes from: its sender may have forged that.
            if asked == client and (held := self.reach.prove(client)) is not None:
                self._send(held, client)
            transaction.response_received(message, client)


class _VirtualTransport:
    """What aioice expects below a component."""

    def __init__(self, component: _Component, send: Send) -> None:
        self._component = component
        self.sendto = send

    def close(self) -> None:
        self._component.connection_lost(None)

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default


class SharedConnection(Connection):
    """The ICE agent of one session."""

    def __init__(self, ufrag: str, advertised: Client, send: Send, on_round_trip: OnRoundTrip) -> None:
        super().__init__(ice_controlling=False, local_username=ufrag, local_password=password())
        host, port = advertised
        candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=_COMPONENT,
            transport="udp",
            priority=candidate_priority(_COMPONENT, "host"),
            host=host,
            port=port,
            type="host",
        )
        self.candidate = candidate
        self._component = _Component(self, candidate, send, on_round_trip)
        self.overflow = 0

    @property
    def remote(self) -> Client | None:
        """The client's address on the nominated pair."""
        pair = self._nominated.get(_COMPONENT)
        return pair.remote_addr if pair is not None else None

    @property
    def _remote_key(self) -> bytes:
        return (self.remote_password or "").encode()

    @property
    def closing(self) -> bool:
        """Whether the agent has given the connection up, or was told to."""
        return self._closing

    async def gather_candidates(self) -> None:
        """Offer the edge's public address, and look at no interface."""
        if not self._local_candidates_start:
            self._local_candidates_start = self._local_candidates_end = True
            self._protocols.append(self._component)
            self._local_candidates.append(self.candidate)

    def authentic(self, message: stun.Message) -> bool:
        """Whether a request may be acted upon: a binding request for us, signed with our password, and complete."""
        attributes = message.attributes
        return (
            message.message_method is stun.Method.BINDING
            and "USERNAME" in attributes
            and "MESSAGE-INTEGRITY" in attributes
            and "PRIORITY" in attributes  # RFC 8445, section 7.1.1: a check without it is none
            and self._valid_username(attributes["USERNAME"])
            and message.check_message_integrity(self.local_password.encode())
        )

    def asked(self, message: stun.Message, client: Client) -> bool:
        """Whether a response answers a check of ours that was sent to that very address."""
        return self._component.asked(message, client, self._remote_key)

    def stun_received(self, message: stun.Message, client: Client, arrival_ns: int) -> None:
        """Take an authentic request, or a response."""
        if self._closing:
            return
        if message.message_class is stun.Class.REQUEST and not self._may_check(client):
            return
        self._component.received(message, client, arrival_ns, self._remote_key)

    def datagram_received(self, data: bytes) -> None:
        """Queue a DTLS record for whoever awaits `recv`; drop it when that one is far behind."""
        if self._queue.qsize() < QUEUED_DATAGRAMS_MAX:
            self.data_received(data, _COMPONENT)
        else:
            self.overflow += 1

    def _may_check(self, client: Client) -> bool:
        if any((c.host, c.port) == client for c in self._remote_candidates):
            return True
        if self.remote is None:
            return len(self._remote_candidates) < REMOTE_CANDIDATES_BEFORE
        if len(self._remote_candidates) >= REMOTE_CANDIDATES_MAX:
            self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        # Recorded requests sent again from many addresses must not keep a client from moving to a new one.
        pairs = {pair.remote_addr: pair for pair in self._check_list}
        elsewhere = [c for c in self._remote_candidates if (c.host, c.port) != self.remote]
        unproven = [c for c in elsewhere if pairs[c.host, c.port].state is not CandidatePair.State.SUCCEEDED]
        oldest = (unproven or elsewhere)[0]
        pair = pairs[oldest.host, oldest.port]
        if pair.task is not None:
            pair.task.cancel()
        self._check_list.remove(pair)
        self._remote_candidates.remove(oldest)


class SharedGatherer(RTCIceGatherer):
    """aiortc's gatherer around a `SharedConnection`."""

    def __init__(self, connection: SharedConnection) -> None:
        super().__init__(iceServers=[])
        self._connection = connection
