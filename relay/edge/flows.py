"""The flow table: which client address talks to which transceiver, bounded in every direction.

A flow is opened by a STUN request with a verified ufrag, or by a transceiver that names a client the table does not
know (the edge was restarted, the call goes on). Packets other than STUN requests find their way by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.edge.config import Limits
from relay.edge.owners import Owners
from relay.encap import ADDRESS_AT, MAC_BYTES, EncapError, down_header, up_header

Address = tuple[str, int]


class Entry(NamedTuple):
    """One flow, as much of it as outlives the process. `session` is 16 bytes; level ids are as in `Flow`."""

    client: Address
    transceiver: Address
    session: bytes
    audio_level_id: int
    ufrag: str | None


class Told(NamedTuple):
    """What a transceiver's header says of the session that speaks to a client; `session` is None if not known."""

    down_key: bytes
    session: bytes | None
    audio_level_id: int | None


class Rival:
    """Who asks for a flow that another session has: `asked` are its last checks of the client, by transaction."""

    __slots__ = ("asked", "transceiver", "ufrag")

    def __init__(self, ufrag: str, transceiver: Address) -> None:
        self.ufrag = ufrag
        self.transceiver = transceiver
        self.asked: dict[bytes, Told] = {}

    def asks(self, transaction_id: bytes, told: Told) -> None:
        """Note a check; the oldest goes if there are too many."""
        if len(self.asked) >= _ASKED_MAX:
            del self.asked[next(iter(self.asked))]
        self.asked[transaction_id] = told


_NS: Final = 1_000_000_000
_QUIET_NS: Final = 10 * _NS  # a living call is heard from at least every 5 s (RFC 7675, section 5.1)
_ASKED_MAX: Final = 8
_V4_BYTES: Final = 4
_NETWORK_BYTES: Final = 8
_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291, section 2.5.5.2
_SWEEP_SLICE: Final = 256  # flows looked at between two yields, some 20 µs


class FlowRefusedError(Exception):
    """No flow may be opened. `reason` is `flows_full`, `source_cap`, `ufrag_cap`, `session_cap` or `bad_source`."""

    def __init__(self, reason: str) -> None:
        """`reason` is what is counted."""
        super().__init__(reason)
        self.reason = reason


class Flow:
    """One client address.

    Attributes:
        address: the client's.
        header: what goes before each of its datagrams on the way up.
        ufrag: the server ufrag it last proved to know; None for a flow learnt from the downlink.
        transceiver: where its packets go.
        session: 16 bytes, once the transceiver told.
        audio_level_id: header extension id of the session's audio level (RFC 6464), 0 for none or not told.
        answered: the transceiver sent to this address.
        opened_ns: monotonic time since when it waits for this transceiver's first answer.
        seen_ns: monotonic time of the client's last packet (or of the opening).
        rival: who a STUN request named with another ufrag than the flow's. The flow goes over to another session only
            when the client has answered a check of it, as a request's source may be forged.
        down_key: header under which the downlink finds the flow.
        owner: number under which its packets are captured.
        slot: place in the compiled half's table, -1 without one.

    """

    __slots__ = (
        "address",
        "answered",
        "audio_level_id",
        "down_key",
        "header",
        "opened_ns",
        "owner",
        "rival",
        "seen_ns",
        "session",
        "slot",
        "transceiver",
        "ufrag",
    )

    def __init__(self, address: Address, header: bytes, transceiver: Address, now_ns: int, owner: int = 0) -> None:
        self.address = address
        self.header = header
        self.transceiver = transceiver
        self.opened_ns = now_ns
        self.seen_ns = now_ns
        self.ufrag: str | None = None
        self.session: bytes | None = None
        self.audio_level_id = 0
        self.answered = False
        self.rival: Rival | None = None
        self.down_key = b""
        self.owner = owner
        self.slot = -1


class Mirror:
    """Is told of every change of the table; the compiled half keeps its own by it. This one keeps none."""

    def opened(self, flow: Flow) -> None:
        """Take a new flow."""

    def changed(self, flow: Flow) -> None:
        """Take what has changed: transceiver, down_key or owner."""

    def closed(self, flow: Flow) -> None:
        """Forget a flow."""

    def seen_ns(self, flow: Flow) -> int:
        """Return the monotonic time of the client's last packet."""
        return flow.seen_ns


def _source(header: bytes) -> bytes:
    """Return what a client's flows are counted by, of its upward header: its address, or with IPv6 its network.

    Whoever has one address of IPv6 has 2**64 of them (RFC 6177). IPv4 at a socket of IPv6 is one address each.
    """
    address = header[ADDRESS_AT:-MAC_BYTES]
    return address if len(address) == _V4_BYTES or address.startswith(_MAPPED) else address[:_NETWORK_BYTES]


class FlowTable:
    """All live flows. Not thread-safe: it belongs to the loop."""

    def __init__(self, limits: Limits, header_key: bytes) -> None:
        self.mirror = Mirror()
        self.owners = Owners()
        self._limits = limits
        self._header_key = header_key
        self._idle_ns = int(limits.idle_s * _NS)
        self._unanswered_ns = int(limits.unanswered_s * _NS)
        self._per_source: dict[bytes, int] = {}
        self._per_ufrag: dict[str, list[Flow]] = {}
        self._per_session: dict[bytes, int] = {}
        self.by_address: dict[Address, Flow] = {}
        self.by_down_key: dict[bytes, Flow] = {}
        self.opened = 0
        self.changes = 0
        """Grows whenever what outlives the process changes: flows, their transceivers, sessions and ufrags."""
        self.calls = 0
        """Sessions whose clients were heard lately, at the last sweep. Strangers make flows, and no session."""
        self.closed: dict[str, int] = {"idle": 0, "unanswered": 0, "evicted": 0}

    def open(self, address: Address, ufrag: str | None, transceiver: Address, now_ns: int) -> Flow:
        """Return a new flow.

        Raises:
            FlowRefusedError: a bound is reached, or the address cannot be written in a header.

        """
        if len(self.by_address) >= self._limits.flows:
            raise FlowRefusedError("flows_full")
        try:
            header = up_header(*address, self._header_key)
        except EncapError as error:  # a link-local address with a scope
            raise FlowRefusedError("bad_source") from error
        source = _source(header)
        if self._per_source.get(source, 0) >= self._limits.flows_per_source:
            raise FlowRefusedError("source_cap")
        if ufrag is not None:
            self._make_room(ufrag, now_ns)
        flow = Flow(address, header, transceiver, now_ns, self.owners.new())
        self.mirror.opened(flow)
        if ufrag is not None:
            self._join_ufrag(flow, ufrag)
        self.by_address[address] = flow
        self._per_source[source] = self._per_source.get(source, 0) + 1
        self.opened += 1
        self.changes += 1
        return flow

    def reopen(self, address: Address, session: bytes | None, transceiver: Address, now_ns: int) -> Flow:
        """Return a flow that only the downlink speaks of: the edge was restarted in mid-call, and has no map of it.

        It has no ufrag to be counted by, so its session's flows are: a flow that was evicted as a replay, and that the
        transceiver answers, must not come back without bound. Both ways together give a session twice as many at most.

        Raises:
            FlowRefusedError: as for `open`, or the session has all the flows that one ufrag may have.

        """
        if session is not None and self._per_session.get(session, 0) >= self._limits.flows_per_ufrag:
            raise FlowRefusedError("session_cap")
        return self.open(address, None, transceiver, now_ns)

    def hand_over(self, flow: Flow, ufrag: str, transceiver: Address, now_ns: int) -> None:
        """Let a flow follow another ufrag.

        Raises:
            FlowRefusedError: that ufrag has all the flows it may have; the flow stays as it was.

        """
        if ufrag != flow.ufrag:
            self._make_room(ufrag, now_ns)
            previous = flow.ufrag
            self._join_ufrag(flow, ufrag)
            self._leave_ufrag(flow, previous)
            self.changes += 1
        if transceiver != flow.transceiver:
            flow.transceiver = transceiver
            flow.answered = False
            flow.opened_ns = now_ns
            self.mirror.changed(flow)
            self.changes += 1
        flow.rival = None

    def learn(self, flow: Flow, down_key: bytes, session: bytes | None, audio_level_id: int | None = None) -> None:
        """Note under which header the downlink speaks of a flow, and what it says of its session."""
        self.by_down_key.pop(flow.down_key, None)
        self.by_down_key[down_key] = flow
        flow.down_key = down_key
        if session is not None:
            self._own(flow, session, audio_level_id or 0)
        self.mirror.changed(flow)
        self.changes += 1

    def close(self, flow: Flow, reason: str) -> None:
        """Forget a flow and count why."""
        del self.by_address[flow.address]
        self.by_down_key.pop(flow.down_key, None)
        source = _source(flow.header)
        left = self._per_source.pop(source) - 1
        if left:
            self._per_source[source] = left
        self._leave_ufrag(flow, flow.ufrag)
        self._count_session(flow.session, None)
        self.owners.retire(flow.owner)
        self.mirror.closed(flow)
        self.closed[reason] += 1
        self.changes += 1

    def restore(self, entry: Entry, now_ns: int) -> None:
        """Take up a flow of this edge's previous life, ready in both directions.

        Raises:
            FlowRefusedError: as for `open`.

        """
        flow = self.open(entry.client, entry.ufrag, entry.transceiver, now_ns)
        flow.answered = True
        host, port = entry.client
        key = down_header(host, port, entry.session, self._header_key, entry.audio_level_id)
        self.learn(flow, key, entry.session, entry.audio_level_id)

    def living(self, now_ns: int) -> int:
        """Return the answered flows whose clients were heard lately."""
        return sum(
            flow.answered and now_ns - self.mirror.seen_ns(flow) <= _QUIET_NS for flow in self.by_address.values()
        )

    def flows_of_source(self, host: str) -> int:
        """Return how many flows a client's IP address has, or with IPv6 its network."""
        return self._per_source.get(_source(up_header(host, 0, self._header_key)), 0)

    def flows_of_ufrag(self, ufrag: str) -> tuple[Flow, ...]:
        """Return the flows that proved to know a ufrag."""
        return tuple(self._per_ufrag.get(ufrag, ()))

    def sweep(self, now_ns: int) -> Iterator[None]:
        """Close what is idle or was never answered, and count calls, in slices: yields so that voice can go on."""
        heard: set[bytes] = set()
        for n, flow in enumerate(list(self.by_address.values()), 1):
            if not flow.answered and now_ns - flow.opened_ns > self._unanswered_ns:
                self._close_if_open(flow, "unanswered")
            else:
                quiet_ns = now_ns - self.mirror.seen_ns(flow)
                if quiet_ns > self._idle_ns:
                    self._close_if_open(flow, "idle")
                elif quiet_ns <= _QUIET_NS and flow.answered and flow.session is not None:
                    heard.add(flow.session)
            if n % _SWEEP_SLICE == 0:
                yield
        self.calls = len(heard)

    def _close_if_open(self, flow: Flow, reason: str) -> None:
        if self.by_address.get(flow.address) is flow:  # it may have been evicted while the sweep paused
            self.close(flow, reason)

    def _own(self, flow: Flow, session: bytes | None, level_id: int) -> None:
        """Note whose packets a flow's are. Those captured before, without a session, turn out to be this one's."""
        if flow.session is not None and flow.session != session:
            self.owners.retire(flow.owner)
            flow.owner = self.owners.new(session, level_id)
            self.mirror.changed(flow)
        elif session is not None:
            self.owners.tell(flow.owner, session, level_id)
        self._count_session(flow.session, session)
        flow.session, flow.audio_level_id = session, level_id

    def _count_session(self, before: bytes | None, now: bytes | None) -> None:
        """Note that a flow goes over from one session, or none, to another."""
        if now is not None:
            self._per_session[now] = self._per_session.get(now, 0) + 1
        if before is not None:
            left = self._per_session.pop(before) - 1
            if left:
                self._per_session[before] = left

    def _join_ufrag(self, flow: Flow, ufrag: str) -> None:
        others = self._per_ufrag.setdefault(ufrag, [])
        if not flow.answered:  # else its transceiver has said, or will say, whose it is: a request may be forged
            # A client that moved keeps its session: no packet of it has to wait for the transceiver to tell again.
            known = next((other for other in others if other.session is not None), None)
            if known is not None:
                self._own(flow, known.session, known.audio_level_id)
            elif flow.ufrag is not None:
                self._own(flow, None, 0)
        flow.ufrag = ufrag
        others.append(flow)

    def _make_room(self, ufrag: str, now_ns: int) -> None:
        others = self._per_ufrag.get(ufrag, ())
        if len(others) < self._limits.flows_per_ufrag:
            return
        # A ufrag seen on the wire can be replayed from many addresses. Only the true client gets answers, so what
        # goes is the oldest unanswered flow; then an address that the client seems to have left.
        unanswered = [flow for flow in others if not flow.answered]
        if unanswered:
            self.close(unanswered[0], "evicted")
            return
        oldest = min(others, key=self.mirror.seen_ns)
        if now_ns - self.mirror.seen_ns(oldest) <= self._unanswered_ns:
            raise FlowRefusedError("ufrag_cap")
        self.close(oldest, "evicted")

    def _leave_ufrag(self, flow: Flow, ufrag: str | None) -> None:
        if ufrag is None:
            return
        others = self._per_ufrag[ufrag]
        others.remove(flow)
        if not others:
            del self._per_ufrag[ufrag]
