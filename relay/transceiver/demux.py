"""Which session a datagram belongs to.

STUN requests go by the ufrag in their USERNAME, every one of them; everything else goes by the client's address, which
is bound to a session only when a request from it passed MESSAGE-INTEGRITY. Whatever fits nowhere is dropped and
counted, never answered: a stranger learns nothing and gets nothing amplified (RFC 8489, section 9.1.3 would have us
answer errors; we may not, as our address is public).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aioice import stun as aioice_stun

from relay import encap
from relay.probe import PING, ProbeError, pong, refuses
from relay.stun import StunClass, StunError, read
from relay.transceiver.config import EdgeAddress
from relay.transceiver.counters import Counters
from relay.transceiver.stun import parse

ADDRESSES_PER_SESSION: Final = 16
"""A client's candidates and moves. The one unused longest makes place for a new one."""

_SILENT_NS: Final = 5_000_000_000
"""Without a probe, of which there is one a second."""

_HEADERS_MAX: Final = 8_192  # verified ones that are remembered, a few per call

Client = tuple[str, int]

_PING: Final = bytes((PING,))

_DTLS: Final = range(20, 64)  # first byte of a datagram; RFC 7983, section 7
_RTP: Final = range(128, 192)
_STUN: Final = range(4)


class Peer(Protocol):
    """What a session offers to the demultiplexer. No method raises."""

    @property
    def edge(self) -> EdgeAddress:
        """The edge by which the call enters."""

    @property
    def remote(self) -> Client | None:
        """The client's address that the session sends to, once it is connected."""

    def authentic(self, message: aioice_stun.Message) -> bool:
        """Whether a request carries this session's MESSAGE-INTEGRITY and what else a check must carry."""

    def asked(self, message: aioice_stun.Message, client: Client) -> bool:
        """Whether a response from an address answers a check that this session sent there."""

    def stun_received(self, message: aioice_stun.Message, client: Client, arrival_ns: int) -> None:
        """Take an authenticated request, or a response from a bound address."""

    def dtls_received(self, data: bytes) -> None:
        """Take a DTLS record from a bound address."""

    def srtp_received(self, data: bytes, arrival_ns: int) -> None:
        """Take SRTP or SRTCP from a bound address."""


class Demux:
    """The sessions of one transceiver by ufrag and by client address. Bounded by the number of sessions."""

    def __init__(self, counters: Counters, header_keys: Sequence[bytes], region: str = "") -> None:
        self._counters = counters
        self._region = region
        self.reply: Callable[[bytes, tuple[str, int]], None] | None = None
        """Sends an answer to a probe back to the edge it came from; without it probes stay unanswered."""
        self._header_keys = tuple(header_keys)
        self.probed_ns: dict[str, int] = {}
        """When each edge last probed the way here (UTC), as it does once a second; who never did is not in it."""
        self.refusing: set[str] = set()
        """Edges whose last probe said that they take no new calls."""
        self._headers: dict[bytes, encap.Up] = {}
        self._edges: dict[tuple[str, int], str] = {}
        self._by_ufrag: dict[str, Peer] = {}
        self._by_client: dict[tuple[str, Client], Peer] = {}
        self._clients: dict[Peer, OrderedDict[Client, None]] = {}
        self._claims: dict[tuple[str, Client], Peer] = {}
        """Who else sent a request from an address that a connected session uses: the last one of each address."""

    def allow(self, edge: EdgeAddress) -> None:
        """Listen to an edge, and no longer to one of the same name elsewhere."""
        self._edges = {address: name for address, name in self._edges.items() if name != edge.name}
        self._edges[edge.internal] = edge.name

    def silent_edges(self, now_ns: int) -> frozenset[str]:
        """Return the names of edges that used to probe the way here and have stopped; `now_ns` is UTC."""
        return frozenset(name for name, at_ns in self.probed_ns.items() if now_ns - at_ns > _SILENT_NS)

    def add(self, ufrag: str, peer: Peer) -> None:
        """Let checks for `ufrag` reach a session."""
        self._by_ufrag[ufrag] = peer
        self._clients[peer] = OrderedDict()

    def remove(self, ufrag: str, peer: Peer) -> None:
        """Forget a session and its addresses."""
        self._by_ufrag.pop(ufrag, None)
        self._claims = {key: claimant for key, claimant in self._claims.items() if claimant is not peer}
        for client in self._clients.pop(peer, ()):
            key = (peer.edge.name, client)
            self._by_client.pop(key, None)
            if (claimant := self._claims.pop(key, None)) is not None:
                self._bind(claimant, client)

    def receive(self, data: bytes, source: tuple[str, int], arrival_ns: int) -> None:
        """Hand a datagram from an edge to its session, or count why not."""
        edge = self._edges.get(source)
        reason: str | None = "unknown_edge"
        if edge is not None:
            reason = self._route(data, edge, arrival_ns)
            if reason == "bad_header" and self.reply is not None and data[:1] == _PING:
                reason = self._pinged(data, edge, source, arrival_ns)
        if reason is not None:
            self._counters.drop(reason)

    def _route(self, data: bytes, edge: str, arrival_ns: int) -> str | None:
        """Return why the datagram was dropped, or None."""
        try:
            client, offset = self._header(data)
        except encap.EncapError:
            return "bad_header"
        inner = data[offset:]
        first = inner[0] if inner else 0xFF
        if first in _STUN:
            return self._stun(inner, edge, (client.host, client.port), arrival_ns)
        peer = self._by_client.get((edge, client))
        if peer is None:
            return "unknown_client"
        if first in _RTP:
            peer.srtp_received(inner, arrival_ns)
        elif first in _DTLS:
            peer.dtls_received(inner)
        else:
            return "unknown_kind"
        return None

    def _pinged(self, data: bytes, edge: str, source: tuple[str, int], arrival_ns: int) -> str | None:
        try:
            answer = pong(data, self._header_keys, self._region)
        except ProbeError:
            return "bad_probe"
        self.probed_ns[edge] = arrival_ns
        (self.refusing.add if refuses(data) else self.refusing.discard)(edge)
        if self.reply is not None:
            self.reply(answer, source)
        return None

    def _header(self, data: bytes) -> encap.Up:
        """Read a header, each one's MAC only once: all packets of a flow carry the same."""
        size = encap.UP_BYTES[data[1] & encap.IPV6] if len(data) > 1 else 0
        known = self._headers.get(data[:size])
        if known is None:
            known = encap.read_up(data, self._header_keys)
            if len(self._headers) >= _HEADERS_MAX:
                self._headers.clear()
            self._headers[data[: known.offset]] = known
        return known

    def _stun(self, data: bytes, edge: str, client: Client, arrival_ns: int) -> str | None:
        try:
            head = read(data)
        except StunError:
            return "stun_malformed"
        bound = self._by_client.get((edge, client))
        request = head.kind is StunClass.REQUEST
        peer = self._by_ufrag.get((head.username or "").partition(":")[0]) if request else bound
        if peer is None or peer.edge.name != edge:
            return "stun_unknown_ufrag" if request else "unknown_client"
        message = parse(data)
        if message is None:
            return "stun_malformed"
        if request:
            if not peer.authentic(message):
                return "stun_unauthenticated"
            self._claim(peer, client)
        elif (claimant := self._claims.get((edge, client))) is not None and claimant.asked(message, client):
            peer = claimant
            self._bind(peer, client)
        peer.stun_received(message, client, arrival_ns)
        return None

    def _claim(self, peer: Peer, client: Client) -> None:
        """Bind the address that an authentic request came from, unless another call lives there.

        The source of a request may be forged, by somebody with a call of their own: a call's address goes over only to
        whom answers our check there.
        """
        key = (peer.edge.name, client)
        previous = self._by_client.get(key)
        if previous is not None and previous is not peer and previous.remote == client:
            self._claims[key] = peer
        else:
            self._bind(peer, client)

    def _bind(self, peer: Peer, client: Client) -> None:
        key = (peer.edge.name, client)
        self._claims.pop(key, None)
        addresses = self._clients[peer]
        previous = self._by_client.get(key)
        if previous is peer:
            return addresses.move_to_end(client)
        if previous is not None:  # the address changed hands, as behind a NAT that reuses ports
            self._clients[previous].pop(client, None)
        if len(addresses) >= ADDRESSES_PER_SESSION:
            # The address in use stays: a recorded request sent again from many others must not silence the client.
            oldest = next(known for known in addresses if known != peer.remote)
            del addresses[oldest]
            self._by_client.pop((peer.edge.name, oldest), None)
        addresses[client] = None
        self._by_client[key] = peer
        return None
