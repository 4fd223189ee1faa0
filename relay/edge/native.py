"""The compiled way from socket to socket: `wire.c` forwards what follows a flow, the router gets the rest.

The flow table stays the router's; the compiled half keeps a copy of what it needs of each flow, told by `Mirror`.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import Counter
from typing import Any, Final

from relay.edge.capture import Capture
from relay.edge.config import EdgeConfig
from relay.edge.flows import Address, Flow, FlowTable, Mirror
from relay.edge.io import UdpSocket
from relay.edge.router import Datagram, Router
from relay.edge.wire import Library
from relay.encap import MAC_BYTES

NAME: Final = "recvmmsg"

_UP, _DOWN = 0, 1
_SIDES: Final = ("public", "internal")
_KEY_AT: Final = 2  # port and address within a header
_KEY_BYTES: Final = 24
_RECORD: Final = struct.Struct("=24sQ32s48s32s32sIIIIII")  # wire_flow
_SEEN: Final = struct.Struct("=Q")
_SEEN_AT: Final = 24
_V4: Final = struct.Struct("!H4s8x")
_V6: Final = struct.Struct("!HI16sI")
_FAMILY: Final = struct.Struct("=H")


class NativeForwarder(Mirror):
    """Wires the compiled half to sockets, flows, capture and router.

    Args:
        library: from `wire.load`, without a problem.
        public: faces clients.
        internal: faces transceivers.
        config: the edge's.
        flows: its table, which tells this from now on of every change.
        capture: takes the packets.
        router: takes what follows no flow.

    Raises:
        MemoryError: there is not enough.

    """

    name = NAME

    def __init__(
        self,
        library: Library,
        public: UdpSocket,
        internal: UdpSocket,
        config: EdgeConfig,
        flows: FlowTable,
        capture: Capture,
        router: Router,
    ) -> None:
        self._ffi, self._lib = library.ffi, library.lib
        self._sockets = (public, internal)
        self._capture, self._router = capture, router
        limits = config.limits
        ipv6 = ":" in public.address[0]
        seeds = self._ffi.new("uint64_t[2]", [int.from_bytes(os.urandom(8)) for _ in range(2)])
        made: Any = self._lib.wire_new(public.fileno(), internal.fileno(), ipv6, limits.flows, limits.batch, seeds)
        if made == self._ffi.NULL:
            raise MemoryError(f"no memory for an edge of {limits.flows} flows")
        self._wire: Any = self._ffi.gc(made, self._lib.wire_free)  # not before: other threads read its counters
        self._count = self._lib.wire_count(self._wire)
        self._rows = self._lib.wire_rows(self._wire)
        size = limits.flows * _RECORD.size
        self._records = memoryview(self._ffi.buffer(self._lib.wire_flows(self._wire), size)).cast("B")
        self._free = list(range(limits.flows - 1, -1, -1))
        self._record = config.packet_facts
        self._late_ns = int(limits.late_s * 1e9)
        self._datagrams = self._ffi.new("wire_datagram **")
        self._columns: object = None
        self._policy: bool | None = None
        self._forwarded = [0, 0]  # of what was left to the router
        self.behind = False
        """Whether the last turn left datagrams in a socket."""
        flows.mirror = self

    def turn(self, timeout_s: float) -> None:
        """Wait at most so long, then forward one batch from each socket that has datagrams.

        If it may wait, it goes on for a millisecond while more arrives and nothing is left to the router.

        Raises:
            OSError: the sockets cannot be waited for.

        """
        self._aim()
        left = self._lib.wire_turn(self._wire, int(timeout_s * 1e9))
        if left < 0:
            raise OSError("the edge's sockets cannot be waited for any more")
        self.behind = bool(self._lib.wire_behind(self._wire))
        if left:
            self._route_what_is_left()

    def overflowed(self) -> int:
        """Return datagrams that the kernel dropped before they were read."""
        return int(sum(self._count.overflowed))

    def messages_up(self) -> int:
        """Return the messages that datagrams on the way up were put into."""
        return int(self._count.messages[_UP]) + self._forwarded[_UP]

    def refusals(self) -> dict[str, OSError]:
        """Return why datagrams leave one by one, by whom they go to, if a message that held several was refused."""
        errors = zip(("transceivers", "clients"), map(int, self._count.segments_error), strict=True)
        return {whom: OSError(error, os.strerror(error)) for whom, error in errors if error}

    def forwarded(self) -> tuple[int, int]:
        """Return datagrams forwarded up and down: those that the kernel took."""
        count, others = self._count.forwarded, self._forwarded
        return count[_UP] + others[_UP], count[_DOWN] + others[_DOWN]

    def dropped(self) -> Counter[str]:
        """Return datagrams that went nowhere, by reason."""
        count = self._count
        dropped = Counter(self._router.dropped)
        dropped["unknown_source"] += count.unknown_source
        for direction, suffix in ((_UP, ""), (_DOWN, "_down")):
            dropped[f"unknown_kind{suffix}"] += count.unknown_kind[direction]
            dropped[f"late{suffix}"] += count.late[direction]
            dropped[f"{_SIDES[direction]}_oversize"] += count.oversize[direction]
            dropped[f"{_SIDES[direction]}_receive_error"] += count.receive_error[direction]
            # What goes up leaves by the internal socket.
            dropped[f"{_SIDES[1 - direction]}_send_full"] += count.send_full[direction]
            dropped[f"{_SIDES[1 - direction]}_send_error"] += count.send_error[direction]
        return +dropped

    def close(self) -> None:
        """Let go of the sockets, which stay open. What the counters say stays."""
        self._records.release()

    def opened(self, flow: Flow) -> None:
        """Take a new flow."""
        flow.slot = self._free.pop()
        self.changed(flow)
        self._lib.wire_open(self._wire, flow.slot)

    def changed(self, flow: Flow) -> None:
        """Take what has changed of a flow."""
        if flow.slot < 0:
            return
        key = flow.header[_KEY_AT:-MAC_BYTES]
        client, transceiver = _sockaddr(flow.address), _sockaddr(flow.transceiver)
        _RECORD.pack_into(
            self._records,
            flow.slot * _RECORD.size,
            key,
            self.seen_ns(flow),
            flow.header,
            flow.down_key,
            client,
            transceiver,
            len(flow.header),
            len(flow.down_key),
            len(client),
            len(transceiver),
            flow.owner,
            0,
        )

    def closed(self, flow: Flow) -> None:
        """Forget a flow."""
        self._lib.wire_close(self._wire, flow.slot)
        self._free.append(flow.slot)
        flow.slot = -1

    def seen_ns(self, flow: Flow) -> int:
        """Return the monotonic time of the client's last packet, whoever of the two forwarded it."""
        if flow.slot < 0:
            return flow.seen_ns
        (seen_ns,) = _SEEN.unpack_from(self._records, flow.slot * _RECORD.size + _SEEN_AT)
        return max(flow.seen_ns, int(seen_ns))

    def _aim(self) -> None:
        """Point the compiled half at where packets are captured now."""
        capture = self._capture
        if self._policy is not capture.shedding:
            self._policy = capture.shedding
            self._lib.wire_policy(self._wire, self._record, capture.shedding, self._late_ns)
        if self._columns is capture.columns:
            return
        self._columns = columns = capture.columns
        rows, point = self._rows, self._ffi.from_buffer
        rows.head = point("uint8_t[]", columns.head)
        rows.at_ns = point("int64_t[]", columns.at_ns)
        rows.owner = point("uint32_t[]", columns.owner)
        rows.size = point("uint16_t[]", columns.size)
        rows.tos = point("int16_t[]", columns.tos)
        rows.tap = point("uint8_t[]", columns.tap)
        counts = point("uint64_t[]", capture.counts)
        rows.filled, rows.seen, rows.full, rows.overload = counts, counts + 1, counts + 2, counts + 3
        rows.capacity = len(columns)

    def _route_what_is_left(self) -> None:
        now_ns, oldest_ns = time.monotonic_ns(), time.time_ns() - self._late_ns
        public, internal = self._sockets
        if up := self._left(_UP):
            self._forwarded[_UP] += internal.send_batch(self._router.up(up, now_ns, oldest_ns))
        if down := self._left(_DOWN):
            self._forwarded[_DOWN] += public.send_batch(self._router.down(down, now_ns, oldest_ns))

    def _left(self, direction: int) -> list[Datagram]:
        count = self._lib.wire_left(self._wire, direction, self._datagrams)
        buffer, first = self._ffi.buffer, self._datagrams[0]
        batch: list[Datagram] = []
        for number in range(count):
            one = first[number]
            data = bytes(buffer(one.data, one.bytes))
            batch.append((data, _address(bytes(buffer(one.source, one.source_bytes))), one.at_ns, one.tos))
        return batch


def _sockaddr(address: Address) -> bytes:
    host, port = address
    if ":" in host:
        return _FAMILY.pack(socket.AF_INET6) + _V6.pack(port, 0, socket.inet_pton(socket.AF_INET6, host), 0)
    return _FAMILY.pack(socket.AF_INET) + _V4.pack(port, socket.inet_aton(host))


def _address(sockaddr: bytes) -> Address:
    """Read what the kernel wrote. A scope comes as in Python's own addresses, where no header takes it."""
    (family,) = _FAMILY.unpack_from(sockaddr)
    if family == socket.AF_INET:
        port, packed = _V4.unpack_from(sockaddr, _FAMILY.size)
        return socket.inet_ntop(socket.AF_INET, packed), port
    port, _, packed, scope = _V6.unpack_from(sockaddr, _FAMILY.size)
    host = socket.inet_ntop(socket.AF_INET6, packed)
    return (f"{host}%{scope}" if scope else host), port
