"""An impaired network between one caller and its edge, on real UDP sockets.

The caller is told the address of the network's near socket in place of the edge's; what it sends there leaves the
network's far socket for the edge, late, twice or never, and the same the other way. Nothing but loopback is ever
addressed: this is a laboratory, not a proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

import numpy as np

from relay.caller.path import Path
from relay.caller.records import DirectionInjected
from voice.netem import Link, NetworkProfile

Address = tuple[str, int]

MAX_DATAGRAM: Final = 2048
"""Octets read of a datagram; WebRTC keeps to an Ethernet frame."""

BATCH: Final = 32
"""Datagrams read per wake-up, so that one busy socket cannot hold the loop."""

RECEIVE_BUFFER: Final = 1 << 20
"""Octets of kernel buffer: loss must come from the impairment alone, also while the process is busy."""


class NetworkError(Exception):
    """The impaired network cannot be set up; the message says why and what to do."""


def require_loopback(address: Address) -> Address:
    """The address, if it is on this machine's loopback.

    Raises:
        NetworkError: it is not, or it is no IP address.

    """
    host, port = address
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise NetworkError(
            f"{host!r} is not an IP address; an impaired network needs the edge's loopback IP"
        ) from error
    if not loopback or not 0 < port < 1 << 16:
        raise NetworkError(
            f"refusing to impair traffic to {host}:{port}: synthetic callers only call edges on loopback; "
            "start the edge on 127.0.0.1"
        )
    return host, port


class ImpairedNetwork:
    """A caller's access network: `near` faces the caller, the far socket faces the edge.

    Args:
        edge: the edge's address; loopback only.
        profile: impairment of both directions.
        seed: fixes every loss and delay; the directions get separate seeds.

    Raises:
        NetworkError: the edge is not on loopback.

    """

    def __init__(self, edge: Address, profile: NetworkProfile, seed: int) -> None:
        edge = require_loopback(edge)
        family = socket.AF_INET6 if ":" in edge[0] else socket.AF_INET
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._loop = asyncio.get_running_loop()
        self._near = _udp(family)
        self._far = _udp(family)
        self._near.bind((host, 0))
        # Connected: the kernel refuses datagrams from anyone but the edge.
        self._far.bind((host, 0))
        self._far.connect(edge)
        self._client: Address | None = None
        self._seed = seed
        self._moves = 0
        self.refused = 0
        """Datagrams that a socket would not take or that came from a stranger."""
        self.up = Path(Link(profile.up, 2 * seed), self._to_edge)
        """Caller → edge."""
        self.down = Path(Link(profile.down, 2 * seed + 1), self._to_client)
        """Edge → caller."""
        self._loop.add_reader(self._near, self._near_readable)
        self._loop.add_reader(self._far, self._far_readable)

    @property
    def near(self) -> Address:
        """Address that the caller takes for its edge."""
        host, port = self._near.getsockname()[:2]
        return host, port

    @property
    def far(self) -> Address:
        """Address that the edge takes for the caller's."""
        host, port = self._far.getsockname()[:2]
        return host, port

    def move(self, profile: NetworkProfile) -> None:
        """Go on as another network, its losses and delays fixed by the seed and by how many came before."""
        self._moves += 1
        up, down = (int(seed) for seed in np.random.SeedSequence([self._seed, self._moves]).generate_state(2))
        self.up.change(Link(profile.up, up))
        self.down.change(Link(profile.down, down))

    def close(self) -> None:
        """Close both sockets; what is on its way is dropped and counted. May be called again."""
        if self._near.fileno() < 0:
            return
        self._loop.remove_reader(self._near)
        self._loop.remove_reader(self._far)
        self.up.close()
        self.down.close()
        self._near.close()
        self._far.close()

    def report(self) -> tuple[DirectionInjected, DirectionInjected]:
        """What was done to the uplink and to the downlink."""
        return self.up.report(), self.down.report()

    def _near_readable(self) -> None:
        for _ in range(BATCH):
            try:
                data, source = self._near.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier datagram: the receiver is gone, which its own timeouts will notice.
                self.refused += 1
                continue
            if self._client is None:
                self._client = source[:2]
            if source[:2] != self._client:
                self.refused += 1
                continue
            self.up.push(data)

    def _far_readable(self) -> None:
        for _ in range(BATCH):
            try:
                data = self._far.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                self.refused += 1
                continue
            self.down.push(data)

    def _to_edge(self, data: bytes) -> bool:
        try:
            self._far.send(data)
        except OSError:
            self.refused += 1
            return False
        return True

    def _to_client(self, data: bytes) -> bool:
        try:
            if self._client is not None:
                self._near.sendto(data, self._client)
                return True
        except OSError:
            pass  # counted below: the socket would not take it
        self.refused += 1
        return False


def _udp(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock
