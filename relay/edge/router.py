"""Where each datagram goes. No sockets and no clock: batches of datagrams in, batches to send out.

A client's STUN request goes where its signed ufrag says, every time it is seen, and may open a flow. Everything else
follows an open flow by source address. What fits neither is counted by reason and dropped without an answer: an edge
originates nothing, so nobody can make it send more than they sent.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from eventlog.schema import NO_SESSION
from relay import stun
from relay.edge.capture import EDGE_DOWN, EDGE_UP, Capture, LegRow
from relay.edge.config import EdgeConfig
from relay.edge.flows import Address, Flow, FlowRefusedError, FlowTable, Rival, Told
from relay.edge.keeps import Keeps
from relay.edge.probe import Prober
from relay.edge.rtt import StunPairs
from relay.encap import DOWN_BYTES, IPV6, EncapError, derive, read_down
from relay.keep import KEEP
from relay.probe import PONG, ProbeError
from relay.ufrag import UfragError, verify

Datagram = tuple[bytes, Address, int, int]
"""Payload, source, receive time (UTC ns), TOS octet (-1: not known)."""

Outgoing = tuple[bytes, Address]

# RFC 7983, section 7: what the first byte says. RFC 5761, section 4: RTCP by the second.
_STUN_MAX: Final = 3
_STUN_LAST: Final = bytes((_STUN_MAX,))
_DTLS_MIN, _DTLS_MAX = 20, 63
_RTP_MIN, _RTP_MAX = 128, 191
_RTCP_MIN, _RTCP_MAX = 192, 223
_RTP_BYTES_MIN: Final = 12

CLIENT_EDGE: Final = "client_edge"
EDGE_TRANSCEIVER: Final = "edge_transceiver"
_PONG: Final = bytes((PONG,))
_KEEP: Final = bytes((KEEP,))


class Router:
    """Routes both directions over one flow table and feeds the taps."""

    def __init__(self, config: EdgeConfig, flows: FlowTable, capture: Capture) -> None:
        self.know(config.transceivers)
        self._keys = dict(config.keys)
        self._header_keys = [derive(key) for key in config.keys.values()]
        self._flows = flows
        self._capture = capture
        self.refusing: str | None = None
        """Why new clients are turned away at present, if they are. Clients of living calls that move are not new."""
        self.others_refuse = False
        """Whether another of the edge's workers turns new clients away."""
        self.ufrags_elsewhere: frozenset[str] = frozenset()
        """Of calls that other workers have: their clients, too, are not new."""
        self._record = config.packet_facts
        self._pairs = StunPairs()
        self._prober = Prober(self._header_keys, os.urandom)
        self.keeps = Keeps(config.sampling, self._header_keys, flows.owners.knows, config.limits.flows)
        self.dropped: Counter[str] = Counter()

    def know(self, transceivers: Mapping[str, Address]) -> None:
        """Replace the allow-list of transceivers by code; flows that are open keep theirs."""
        self._transceivers = dict(transceivers)
        self._codes = {address: code for code, address in self._transceivers.items()}

    def pings(self, now_ns: int) -> list[Outgoing]:
        """Return a probe for each transceiver, which says whether new calls are refused here; `now_ns` is UTC.

        Nobody knows which worker a new client will come to, so one that refuses is enough.
        """
        return self._prober.pings(self._codes, now_ns, refusing=self.refusing is not None or self.others_refuse)

    def up(self, batch: Iterable[Datagram], now_ns: int, oldest_ns: int = 0) -> list[Outgoing]:
        """Route datagrams from clients. `now_ns` is monotonic; RTP received before `oldest_ns` (UTC) comes too late."""
        flows = self._flows.by_address
        out: list[Outgoing] = []
        for data, source, at_ns, tos in batch:
            first = data[0] if data else -1
            if _RTP_MIN <= first <= _RTP_MAX or _DTLS_MIN <= first <= _DTLS_MAX:
                flow = flows.get(source)
                if flow is None:
                    self.dropped["unknown_source"] += 1
                    continue
                flow.seen_ns = now_ns
                if _is_rtp(data):
                    if self._record:
                        self._capture.packet(flow, EDGE_UP, data, at_ns, tos)
                    if at_ns < oldest_ns:
                        self.dropped["late"] += 1
                        continue
                out.append((flow.header + data, flow.transceiver))
            elif 0 <= first <= _STUN_MAX:
                self._stun_up(data, source, at_ns, now_ns, out)
            else:
                self.dropped["unknown_kind"] += 1
        return out

    def down(self, batch: Iterable[Datagram], now_ns: int, oldest_ns: int = 0) -> list[Outgoing]:
        """Route datagrams from transceivers; the times are as for `up`."""
        flows = self._flows.by_down_key
        out: list[Outgoing] = []
        for data, source, at_ns, tos in batch:
            size = DOWN_BYTES[data[1] & IPV6] if len(data) > 1 else 0
            flow = flows.get(data[:size])
            own = True  # said by the session whose flow it is
            if flow is None or flow.transceiver != source:
                flow = self._flow_of_downlink(data, source, at_ns, now_ns)
                if flow is None:
                    continue
                own = flow.transceiver == source and flow.down_key == data[:size]
            payload = data[size:]
            first = payload[0] if payload else -1
            if _RTP_MIN <= first <= _RTP_MAX:
                if _is_rtp(payload):
                    if self._record and own:
                        self._capture.packet(flow, EDGE_DOWN, payload, at_ns, tos)
                    if at_ns < oldest_ns:
                        self.dropped["late_down"] += 1
                        continue
            elif 0 <= first <= _STUN_MAX:
                self._stun_down(payload, flow, at_ns, own=own)
            elif not _DTLS_MIN <= first <= _DTLS_MAX:
                self.dropped["unknown_kind_down"] += 1
                continue
            out.append((payload, flow.address))
        return out

    def _stun_up(self, data: bytes, source: Address, at_ns: int, now_ns: int, out: list[Outgoing]) -> None:
        try:
            message = stun.read(data)
        except stun.StunError:
            self.dropped["malformed_stun"] += 1
            return
        flow = self._flows.by_address.get(source)
        if not message.is_binding_request:
            # Answers and indications name no ufrag: they follow the flow.
            if flow is None:
                self.dropped["unknown_source"] += 1
                return
            flow.seen_ns = now_ns
            rival = flow.rival
            if rival is not None and message.kind is stun.StunClass.SUCCESS:
                told = rival.asked.get(message.transaction_id)
                if told is not None:
                    self._hand_over(flow, rival, told, now_ns)
            self._response(CLIENT_EDGE, flow, message, at_ns)
            out.append((flow.header + data, flow.transceiver))
            return
        routed = self._route_request(message, source, flow, now_ns)
        if routed is None:
            return
        flow, transceiver = routed
        flow.seen_ns = now_ns
        self._pairs.request(EDGE_TRANSCEIVER, source, message.transaction_id, at_ns)
        out.append((flow.header + data, transceiver))

    def _route_request(
        self, message: stun.Stun, source: Address, flow: Flow | None, now_ns: int
    ) -> tuple[Flow, Address] | None:
        """Return the flow of a binding request and the transceiver that its own ufrag names."""
        if message.username is None:
            self.dropped["no_username"] += 1
            return None
        ufrag = message.username.partition(":")[0]  # RFC 8445, section 7.2.2: the receiver's ufrag comes first
        if flow is not None and flow.ufrag == ufrag:
            return flow, flow.transceiver
        transceiver = self._transceiver_of(ufrag)
        if transceiver is None:
            return None
        if self.refusing is not None and flow is None and not self._lives(ufrag):
            self.dropped[self.refusing] += 1
            return None
        try:
            if flow is None:
                flow = self._flows.open(source, ufrag, transceiver, now_ns)
            elif not flow.answered or (flow.ufrag is None and flow.transceiver == transceiver):
                self._flows.hand_over(flow, ufrag, transceiver, now_ns)
                flow.rival = Rival(ufrag, transceiver)  # it may be of a session that is not the flow's
            elif flow.rival is None or (flow.rival.ufrag, flow.rival.transceiver) != (ufrag, transceiver):
                flow.rival = Rival(ufrag, transceiver)
        except FlowRefusedError as error:
            self.dropped[error.reason] += 1
            return None
        return flow, transceiver

    def _lives(self, ufrag: str) -> bool:
        return bool(self._flows.flows_of_ufrag(ufrag)) or ufrag in self.ufrags_elsewhere

    def _hand_over(self, flow: Flow, rival: Rival, told: Told, now_ns: int) -> None:
        try:
            self._flows.hand_over(flow, rival.ufrag, rival.transceiver, now_ns)
        except FlowRefusedError as error:
            self.dropped[error.reason] += 1
            return
        flow.answered = True
        self._flows.learn(flow, *told)

    def _transceiver_of(self, ufrag: str) -> Address | None:
        """Return the transceiver that a ufrag of ours names, or count why there is none."""
        try:
            verified = verify(ufrag, self._keys)
        except UfragError as error:
            self.dropped[f"ufrag_{error.reason}"] += 1
            return None
        transceiver = self._transceivers.get(verified.transceiver)
        if transceiver is None:
            self.dropped["unknown_transceiver"] += 1
        return transceiver

    def _stun_down(self, payload: bytes, flow: Flow, at_ns: int, *, own: bool) -> None:
        if not own:
            return
        try:
            message = stun.read(payload)
        except stun.StunError:
            return  # the transceiver's own business; it is forwarded as it is
        if message.is_binding_request:
            self._pairs.request(CLIENT_EDGE, flow.address, message.transaction_id, at_ns)
        else:
            self._response(EDGE_TRANSCEIVER, flow, message, at_ns)

    def _response(self, leg: str, flow: Flow, message: stun.Stun, at_ns: int) -> None:
        rtt_ns = self._pairs.response(leg, flow.address, message.transaction_id, at_ns)
        if rtt_ns is not None:
            self._capture.leg(LegRow(flow.session or flow, leg, at_ns, rtt_ns))

    def _no_header(self, data: bytes, source: Address, at_ns: int) -> None:
        """Take what a transceiver says to this edge itself."""
        if data[:1] == _PONG:
            self._pong(data, source, at_ns)
        elif data[:1] == _KEEP:
            reason = self.keeps.take(data, at_ns)
            if reason is not None:
                self.dropped[reason] += 1
        else:
            self.dropped["malformed_header"] += 1

    def _pong(self, data: bytes, source: Address, at_ns: int) -> None:
        try:
            trip = self._prober.answered(data, source, at_ns)
        except ProbeError:
            self.dropped["malformed_probe"] += 1
            return
        if trip is None:
            self.dropped["late_probe"] += 1
        else:
            self._capture.leg(LegRow(NO_SESSION, EDGE_TRANSCEIVER, trip.at_ns, trip.rtt_ns, "probe", trip.region))

    def _flow_of_downlink(self, data: bytes, source: Address, at_ns: int, now_ns: int) -> Flow | None:
        """Find, re-create or refuse the flow that a transceiver's header names; learn its session."""
        if source not in self._codes:
            self.dropped["unknown_peer"] += 1
            return None
        try:
            header = read_down(data, self._header_keys)
        except EncapError:
            self._no_header(data, source, at_ns)
            return None
        session = header.session_id if any(header.session_id) else None
        told = Told(data[: header.offset], session, header.audio_level_id)
        flow = self._flows.by_address.get(header.client)
        try:
            if flow is None:
                flow = self._flows.reopen((header.client.host, header.client.port), session, source, now_ns)
            elif flow.transceiver != source or _is_anothers(flow, session):
                return self._flow_of_another(flow, source, told, data[header.offset :])
            elif flow.rival is not None and flow.rival.transceiver == source and flow.session != session:
                self._flows.hand_over(flow, flow.rival.ufrag, source, now_ns)
        except FlowRefusedError as error:
            self.dropped[error.reason] += 1
            return None
        flow.answered = True
        self._flows.learn(flow, *told)
        return flow

    def _flow_of_another(self, flow: Flow, source: Address, told: Told, payload: bytes) -> Flow | None:
        """Let through what another session than the flow's says to the client, and learn nothing by it.

        From another transceiver that is STUN, and of the flow's rival only. What the client answers says more.
        """
        rival = flow.rival if flow.rival is not None and flow.rival.transceiver == source else None
        if flow.transceiver != source and (rival is None or payload[:1] > _STUN_LAST):
            self.dropped["wrong_transceiver"] += 1
            return None
        if rival is not None and payload[:1] <= _STUN_LAST:
            with suppress(stun.StunError):  # the transceiver's own business; it is forwarded as it is
                message = stun.read(payload)
                if message.is_binding_request:
                    rival.asks(message.transaction_id, told)
        return flow


def _is_anothers(flow: Flow, session: bytes | None) -> bool:
    """Whether a flow that its client and its transceiver have agreed upon belongs to another session."""
    return flow.answered and flow.ufrag is not None and flow.session is not None and flow.session != session


def _is_rtp(data: bytes) -> bool:
    return data[0] >= _RTP_MIN and len(data) >= _RTP_BYTES_MIN and not _RTCP_MIN <= data[1] <= _RTCP_MAX
