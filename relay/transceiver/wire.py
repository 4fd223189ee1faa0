"""The one UDP socket of a transceiver, between it and its edges."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from relay.transceiver.counters import Counters

DATAGRAM_BYTES_MAX: Final = 2_048
"""More than any path carries unfragmented; what is longer is truncated and then refused by whoever parses it."""

BUFFER_BYTES: Final = 4 << 20
"""Asked of the kernel both ways: 200 calls for some 100 ms that the loop may be busy. It may grant less."""

EXPEDITED: Final = 46 << 2
"""DSCP EF (RFC 3246) as the traffic class byte."""

_LINUX: Final = sys.platform == "linux"
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; Python does not name it
_SO_RXQ_OVFL: Final = 40
_TIMESPEC: Final = struct.Struct("@ll")
_U32: Final = struct.Struct("@I")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_U32.size)

Receiver = Callable[[bytes, tuple[str, int], int], None]
"""Takes a datagram, its source and its arrival in UTC nanoseconds (the kernel's where it tells). Never raises."""


class Wire:
    """A non-blocking UDP socket on the running loop.

    A turn of the loop reads one datagram at least, and `batch` at most: none more once `voice_due` says that a tick of
    the playout clock waits.
    """

    def __init__(
        self,
        bind: tuple[str, int],
        receiver: Receiver,
        counters: Counters,
        *,
        batch: int,
        voice_due: Callable[[], bool],
    ) -> None:
        self._receiver = receiver
        self._counters = counters
        self._batch = batch
        self._voice_due = voice_due
        self._overflow = 0
        family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED)
            if _LINUX:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            self._socket.bind(bind)
        except OSError:
            self._socket.close()
            raise
        host, port = self._socket.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def send(self, data: bytes, destination: tuple[str, int]) -> None:
        """Send a datagram now, or count that the kernel would not take it: voice that waits is worth nothing."""
        try:
            self._socket.sendto(data, destination)
        except OSError as error:
            # EAGAIN: the send buffer is full. Others (ENETUNREACH, ECONNREFUSED from an ICMP of an edge that is gone)
            # heal or do not; consent checks (RFC 7675) end the calls that stay dead.
            self._counters.drop("send_full" if isinstance(error, BlockingIOError) else "send_error")

    def close(self) -> None:
        """Stop reading and close the socket."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(self._batch):
            try:
                data, ancillary, _, source = self._socket.recvmsg(DATAGRAM_BYTES_MAX, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._counters.drop("receive_error")  # an ICMP error of an earlier send; the next datagram may be fine
                continue
            self._receiver(data, (source[0], source[1]), self._arrival_ns(ancillary))
            if self._voice_due():
                return

    def _arrival_ns(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        arrival_ns = 0
        for level, kind, value in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                arrival_ns = seconds * 1_000_000_000 + nanoseconds
            elif kind == _SO_RXQ_OVFL:
                (overflow,) = _U32.unpack(value)
                self._counters.drop("socket_overflow", (overflow - self._overflow) & 0xFFFFFFFF)
                self._overflow = overflow
        return arrival_ns or time.time_ns()
