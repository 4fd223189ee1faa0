"""Load for relays: sixteen clients and the transceiver behind, who send each other RTP as fast as it is taken.

All sends and receives are in batches (sendmmsg, recvmmsg by cffi, nothing compiled), so that one processor loads what
runs on the other.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from cffi import FFI

LOOPBACK: Final = "127.0.0.1"
CLIENTS: Final = 16
RUN: Final = 16  # packets of one client in a row
BURST: Final = CLIENTS * RUN  # in each direction
PACKET_BYTES: Final = 180  # 20 ms of Opus at 64 kbit/s, in SRTP
STAMP_AT: Final = 16  # when it was sent, in the payload
PATIENCE_S: Final = 0.5

_SLOT: Final = 512
BUFFER_BYTES: Final = 4 << 20
_CONTROL_BYTES: Final = 64
_SO_TIMESTAMPNS: Final = 35
_HEADER_BYTES: Final = 12
_NS: Final = 1_000_000_000

Address = tuple[str, int]


@cache
def _libc() -> tuple[Any, Any]:
    ffi = FFI()
    ffi.cdef(
        """
        struct iovec { void *iov_base; size_t iov_len; };
        struct msghdr { void *msg_name; uint32_t msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
                        void *msg_control; size_t msg_controllen; int msg_flags; };
        struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
        int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
        int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
        """
    )
    return ffi, ffi.dlopen(None)


def udp(address: Address = (LOOPBACK, 0)) -> socket.socket:
    """Return a bound socket with large buffers."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(address)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    made.settimeout(PATIENCE_S)
    return made


class Outbox:
    """A burst of RTP packets, made once; each sending has new sequence numbers, timestamps and times of sending.

    Args:
        prefixes: what goes before each client's packets.
        destinations: of each client's packets; None for sockets that are connected.

    """

    def __init__(self, prefixes: Sequence[bytes], destinations: Sequence[Address] | None) -> None:
        self._ffi, self._lib = _libc()
        self._slots = np.zeros((BURST, _SLOT), np.uint8)
        self._messages = self._ffi.new(f"struct mmsghdr[{BURST}]")
        self._vectors = self._ffi.new(f"struct iovec[{BURST}]")
        self._names = [
            self._ffi.new(
                "uint8_t[16]", struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
            )
            for host, port in destinations or ()
        ]
        self._at = len(prefixes[0])
        self._sequence = 0
        base = self._ffi.cast("uint8_t *", self._ffi.from_buffer(self._slots))
        for n in range(BURST):
            client = n // RUN
            packet = prefixes[client] + struct.pack("!BBHII", 0x80, 111, 0, 0, 7).ljust(PACKET_BYTES, b"x")
            self._slots[n, : len(packet)] = np.frombuffer(packet, np.uint8)
            self._vectors[n].iov_base, self._vectors[n].iov_len = base + n * _SLOT, len(packet)
            header = self._messages[n].msg_hdr
            header.msg_iov, header.msg_iovlen = self._vectors + n, 1
            if self._names:
                header.msg_name, header.msg_namelen = self._names[client], 16

    def resize(self, sizes: Sequence[int]) -> None:
        """Cut the packets to these sizes, of at most PACKET_BYTES each."""
        for n, size in enumerate(sizes):
            self._vectors[n].iov_len = self._at + size

    def renew(self, runs: int = RUN) -> None:
        """Number the packets on, by `runs` for each client."""
        numbers = self._sequence + np.tile(np.arange(RUN, dtype=np.int64), CLIENTS)
        self._sequence += runs
        head = self._slots[:, self._at : self._at + _HEADER_BYTES]
        head[:, 2:4] = (numbers & 0xFFFF).astype(">u2")[:, None].view(np.uint8)
        head[:, 4:8] = (numbers * 960 & 0xFFFFFFFF).astype(">u4")[:, None].view(np.uint8)

    def send(self, fd: int, first: int, count: int) -> int:
        """Send some of the packets from a socket; return how many the kernel took."""
        stamp = np.frombuffer(struct.pack("=q", time.time_ns()), np.uint8)
        self._slots[first : first + count, self._at + STAMP_AT : self._at + STAMP_AT + 8] = stamp
        sent = 0
        while sent < count:
            taken: int = self._lib.sendmmsg(fd, self._messages + first + sent, count - sent, socket.MSG_DONTWAIT)
            if taken <= 0:
                break
            sent += taken
        return sent


class Inbox:
    """Receives in batches. With `stamps` it keeps how long each packet was under way, in ns."""

    def __init__(self, *, stamps: bool = False) -> None:
        self._ffi, self._lib = _libc()
        self._slots = np.zeros((BURST, _SLOT), np.uint8)
        self._control = np.zeros((BURST, _CONTROL_BYTES), np.uint8)
        self._messages = self._ffi.new(f"struct mmsghdr[{BURST}]")
        self._vectors = self._ffi.new(f"struct iovec[{BURST}]")
        self._stamps = stamps
        self.delays: list[Any] = []
        base = self._ffi.cast("uint8_t *", self._ffi.from_buffer(self._slots))
        control = self._ffi.cast("uint8_t *", self._ffi.from_buffer(self._control))
        for n in range(BURST):
            self._vectors[n].iov_base, self._vectors[n].iov_len = base + n * _SLOT, _SLOT
            header = self._messages[n].msg_hdr
            header.msg_iov, header.msg_iovlen = self._vectors + n, 1
            header.msg_control, header.msg_controllen = control + n * _CONTROL_BYTES, _CONTROL_BYTES

    def drain(self, fd: int, at: int = 0) -> int:
        """Return how many datagrams were waiting, all taken; RTP starts at byte `at` of each."""
        total = 0
        while True:
            for n in range(BURST) if self._stamps else ():
                self._messages[n].msg_hdr.msg_controllen = _CONTROL_BYTES
            taken = self._lib.recvmmsg(fd, self._messages, BURST, socket.MSG_DONTWAIT, self._ffi.NULL)
            if taken <= 0:
                return total
            total += int(taken)
            if self._stamps:
                arrived = np.ascontiguousarray(self._control[:taken, 16:32]).view(np.int64)
                sent = np.ascontiguousarray(self._slots[:taken, at + STAMP_AT : at + STAMP_AT + 8]).view(np.int64)[:, 0]
                self.delays.append(arrived[:, 0] * _NS + arrived[:, 1] - sent)
            if taken < BURST:
                return total


class Load:
    """Sixteen clients' sockets and the transceiver's, connected to a relay.

    Args:
        clients: their sockets.
        transceiver: its socket.
        public: where clients send.
        up: what goes before each client's packets.
        down: what goes before each client's packets from the transceiver.
        downwards: where these go.

    """

    def __init__(
        self,
        clients: Sequence[socket.socket],
        transceiver: socket.socket,
        public: Address,
        up: Sequence[bytes],
        down: Sequence[bytes],
        downwards: Sequence[Address],
    ) -> None:
        self._clients, self._transceiver = clients, transceiver
        for client in clients:
            client.connect(public)
            client.setblocking(False)
        transceiver.setblocking(False)
        self._up, self._down = Outbox(up, None), Outbox(down, downwards)
        self._inbox = Inbox()
        self._poll = select.poll()
        for one in (*clients, transceiver):
            self._poll.register(one, select.POLLIN)

    def saturate(self, packets: int, window: int = 4 * BURST) -> int:
        """Send so many, half of them each way, with at most `window` under way; return how many arrived."""
        sent = arrived = lost = 0
        while sent < packets:
            self.burst()
            sent += 2 * BURST
            heard = time.monotonic()
            while sent - arrived - lost > window:
                fresh = self.drain()
                arrived += fresh
                now = time.monotonic()
                if fresh:
                    heard = now
                elif now - heard > PATIENCE_S:
                    lost = sent - arrived  # they will not come any more
                else:
                    self._poll.poll(5)
        return arrived + self.settle()

    def vary(self, sizes: Sequence[int]) -> None:
        """Send packets of these sizes from now on, BURST for each direction."""
        self._up.resize(sizes[:BURST])
        self._down.resize(sizes[BURST:])

    def burst(self, runs: int = RUN) -> int:
        """Send `runs` packets of each client each way; return how many the kernel took."""
        self._up.renew(runs)
        self._down.renew(runs)
        taken = 0
        for number, client in enumerate(self._clients):
            taken += self._up.send(client.fileno(), number * RUN, runs)
            taken += self._down.send(self._transceiver.fileno(), number * RUN, runs)
        return taken

    def drain(self) -> int:
        """Take all that has arrived."""
        total = 0
        for one in (*self._clients, self._transceiver):
            total += self._inbox.drain(one.fileno())
        return total

    def settle(self) -> int:
        """Take what still arrives until nothing does."""
        arrived = 0
        while self._poll.poll(100):
            arrived += self.drain()
        return arrived

    def delays_ns(self, at: int, rate: float, seconds: float, tick_s: float = 0.001) -> tuple[Any, int]:
        """Send `rate` packets a second, half each way; return what those upwards took, in ns, and how many were sent.

        A packet's delay ends with the kernel's time of arrival at the transceiver, where its RTP starts at byte `at`.
        """
        self._transceiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        inbox, ends, sent, number = Inbox(stamps=True), time.monotonic() + seconds, 0, 0
        started = time.monotonic()
        while (now := time.monotonic()) < ends:
            due = int((now - started) * rate / 2)
            runs, sent_up = 1, sent // 2
            if sent_up + CLIENTS * runs <= due:
                sent += self.burst(runs)
                number += 1
            else:
                inbox.drain(self._transceiver.fileno(), at)
                for client in self._clients:
                    self._inbox.drain(client.fileno())
                time.sleep(max(0.0, min(tick_s, (sent_up + CLIENTS - due) * 2 / rate)))
        time.sleep(0.1)
        inbox.drain(self._transceiver.fileno(), at)
        self._transceiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 0)
        self.settle()
        return np.concatenate(inbox.delays) if inbox.delays else np.zeros(0, np.int64), sent
