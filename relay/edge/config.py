"""What one edge is told: who it is, where it listens, whom it may forward to, and its bounds."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.edge.sampling import Sampling
from relay.ufrag import check_code, check_keys


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients can make an edge hold. Times in seconds."""

    flows: int = 20_000  # in all
    flows_per_source: int = 64  # per client IP address, of IPv6 per network (/64): people behind one NAT share it
    flows_per_ufrag: int = 4  # a client's candidates and moves, not a crowd replaying one ufrag
    idle_s: float = 30.0  # a flow without a packet from its client; ICE consent checks come every 5 s (RFC 7675)
    unanswered_s: float = 5.0  # a flow whose transceiver never answered
    rows: int = 65_536  # captured packets held between two flushes
    streams_per_tap: int = 8  # SSRCs of a session in one direction: whoever has a flow can invent those that go up
    waiting_s: float = 2.0  # packets wait this long to learn which session they belong to
    flush_s: float = 0.2
    batch: int = 256  # datagrams taken from one socket before the other gets its turn
    receive_buffer_bytes: int = 4 << 20
    late_s: float = 0.5  # voice that waited longer in a receive buffer is worth nothing: the oldest is dropped
    refuse_behind_s: float = 0.1  # sockets that were not empty for so long: new calls are refused
    shed_behind_s: float = 0.3  # and for so long: telemetry gives way


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """One edge.

    Attributes:
        name: of this edge, unique in its region.
        region: written on every fact.
        bind: public socket's host and port (port 0: any free one).
        internal_bind: the same for the socket that transceivers talk to.
        transceivers: allow-list: code (as in ufrags) → numeric address.
        keys: ufrag keys by id, shared with the transceivers; headers are signed with what belongs to the first.
        host_id: names this host's clock.
        packet_facts: False forwards without recording packets.
        compiled: use the compiled half where it was built; False goes the portable way.
        flow_map: file in which flows outlive the process; None: they do not. Workers after the first add `+` and their
            number to its name.
        probes: measure the way to each transceiver once a second, and tell them whether new calls are refused.
        limits: bounds.
        sampling: which packet facts are written.
        worker: which of the edge's processes this is, from 0.
        workers: how many there are at its two ports.

    Raises:
        ValueError: a code, key or address is not usable.

    """

    name: str
    region: str
    bind: tuple[str, int]
    internal_bind: tuple[str, int]
    transceivers: Mapping[str, tuple[str, int]]
    keys: Mapping[int, bytes]
    host_id: str
    packet_facts: bool = True
    compiled: bool = True
    flow_map: Path | None = None
    probes: bool = True
    limits: Limits = Limits()
    sampling: Sampling = field(default_factory=Sampling)
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        check_keys(self.keys)
        for code, (host, _) in self.transceivers.items():
            check_code(code)
            try:
                ipaddress.ip_address(host)
            except ValueError as error:
                raise ValueError(
                    f"transceiver {code} of edge {self.name} has address {host!r}; give a numeric IP address"
                ) from error
