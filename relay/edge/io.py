"""UDP in batches: the portable way, with `recvmsg` and what its control messages tell.

The edge's loop knows only `receive_batch` and `send_batch`, so that a faster way can take their place.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

from relay.edge.capture import UNKNOWN_TOS
from relay.edge.router import Datagram, Outgoing

DSCP_EF: Final = 46
"""Expedited forwarding (RFC 3246), which RFC 8837 gives to interactive audio."""

_DATAGRAM_BYTES: Final = 2048  # over any Ethernet MTU; what is longer is no voice and is dropped
_CONTROL_BYTES: Final = 256

# Python does not name these; the values are Linux's on all but a few retired architectures (asm-generic/socket.h).
_LINUX: Final = sys.platform == "linux"
_SO_TIMESTAMPNS: Final = 35
_SO_RXQ_OVFL: Final = 40
_TIMESPEC: Final = struct.Struct("@qq")
_U32: Final = struct.Struct("@I")
_NS: Final = 1_000_000_000
_USUAL: Final = 2  # control messages: more of them tell of overflow
_IP_LEVELS: Final = (socket.IPPROTO_IP, socket.IPPROTO_IPV6)
_TOS_OCTET: Final = 0 if sys.byteorder == "little" else -1  # of one octet (IPv4) or of an int (IPv6)


class UdpSocket:
    """One non-blocking UDP socket.

    Attributes:
        address: what it is bound to.
        kernel_times: whether receive times are the kernel's; otherwise they are taken when the datagram is read.
        overflowed: datagrams that the kernel dropped because this socket's buffer was full, as far as it tells.
        dropped: other datagrams not received or not sent, by reason.

    """

    def __init__(self, bind: tuple[str, int], *, receive_buffer_bytes: int, bound: socket.socket | None = None) -> None:
        """Bind, or take a socket that is bound already.

        Raises:
            OSError: the address cannot be bound; the message names it.

        """
        self._v6 = ":" in bind[0]
        self._socket = bound or socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        self.overflowed = 0
        self.dropped = {"oversize": 0, "receive_error": 0, "send_full": 0, "send_error": 0}
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self._mark_and_ask_for_tos()
            self.kernel_times = self._ask_for_times()
            if bound is None:
                self._socket.bind(bind)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"cannot bind UDP {bind[0]} port {bind[1]}: {error.strerror}") from error
        host, port = self._socket.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def receive_batch(self, limit: int) -> list[Datagram]:
        """Return up to `limit` datagrams that have arrived, without waiting."""
        batch: list[Datagram] = []
        receive, unpack, v6 = self._socket.recvmsg, _TIMESPEC.unpack, self._v6
        try:
            for _ in range(limit):
                data, control, flags, source = receive(_DATAGRAM_BYTES, _CONTROL_BYTES)
                if flags & socket.MSG_TRUNC:
                    self.dropped["oversize"] += 1
                    continue
                if control and control[0][1] == _SO_TIMESTAMPNS and control[-1][0] in _IP_LEVELS:
                    # Time first and TOS last is what Linux says; the general way costs four times as much.
                    seconds, nanoseconds = unpack(control[0][2])
                    at_ns, tos = seconds * _NS + nanoseconds, control[-1][2][_TOS_OCTET]
                    if len(control) > _USUAL:
                        self._read_control(control[1:-1])
                else:
                    at_ns, tos = self._read_control(control)
                batch.append((data, source[:2] if v6 else source, at_ns, tos))
        except BlockingIOError:
            pass
        except OSError:  # an ICMP error that some platforms report here; the next datagram is read all the same
            self.dropped["receive_error"] += 1
        return batch

    def send_batch(self, outgoing: Sequence[Outgoing]) -> int:
        """Send all and return how many left: what the kernel refuses is dropped, as late voice is worth nothing.

        Refusals are counted: `send_full` if its buffers had no room, `send_error` for any other reason.
        """
        send, refused = self._socket.sendto, 0
        for payload, address in outgoing:
            try:
                send(payload, address)
            except OSError as error:
                refused += 1
                full = isinstance(error, BlockingIOError) or error.errno == errno.ENOBUFS
                self.dropped["send_full" if full else "send_error"] += 1
        return len(outgoing) - refused

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read_control(self, control: list[tuple[int, int, bytes]]) -> tuple[int, int]:
        at_ns, tos = 0, UNKNOWN_TOS
        for level, kind, value in control:
            if level == socket.SOL_SOCKET:
                if kind == _SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
                    seconds, nanoseconds = _TIMESPEC.unpack(value)
                    at_ns = seconds * _NS + nanoseconds
                elif kind == _SO_RXQ_OVFL and len(value) == _U32.size:
                    (self.overflowed,) = _U32.unpack(value)  # cumulative since the socket was made
            elif value:
                tos = value[_TOS_OCTET]
        return at_ns or time.time_ns(), tos

    def _mark_and_ask_for_tos(self) -> None:
        options = [(socket.IPPROTO_IP, "IP_TOS", "IP_RECVTOS")]  # a socket of IPv6 may have clients of IPv4, too
        if self._v6:
            options.append((socket.IPPROTO_IPV6, "IPV6_TCLASS", "IPV6_RECVTCLASS"))
        for level, mark, ask in options:
            self._try_option(level, getattr(socket, mark, None), DSCP_EF << 2)
            self._try_option(level, getattr(socket, ask, None), 1)

    def _ask_for_times(self) -> bool:
        if not _LINUX:
            return False
        self._try_option(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        return self._try_option(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def _try_option(self, level: int, option: int | None, value: int) -> bool:
        """Set what the platform may lack: the edge works without, its facts say less."""
        if option is None:
            return False
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True
