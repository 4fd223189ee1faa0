"""What the taps saw, kept raw and bounded until the flush path turns it into facts.

The hot path pays for one tuple per RTP packet and nothing else. When a bound is reached the row is shed and counted:
telemetry gives way, voice does not.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from eventlog.schema import LEG, PACKET
from relay.edge.flows import Flow

HEAD_BYTES: Final = 64
"""Bytes kept of each packet: the fixed header (RFC 3550, section 5.1) and room for the usual extensions."""

EDGE_UP: Final = 0
EDGE_DOWN: Final = 1
TAPS: Final = ("edge_up", "edge_down")

UNKNOWN_TOS: Final = -1

PacketRow = tuple["bytes | Flow", int, int, int, int, bytes, int]
"""Session (or the flow that will learn it), tap, receive time (UTC ns), TOS octet, UDP payload bytes, head, and the
header extension id of the session's audio level (0: none, or not known)."""


class LegRow(NamedTuple):
    """One RTT sample. `session` as in a PacketRow; `at_ns` is the answer's receive time."""

    session: bytes | Flow
    leg: str
    at_ns: int
    rtt_ns: int


class Capture:
    """Rows since the last flush. Belongs to the loop; not thread-safe."""

    def __init__(self, rows: int) -> None:
        self._capacity = rows
        self.packets: list[PacketRow] = []
        self.legs: list[LegRow] = []
        self.captured = 0
        self.shed: dict[str, Counter[str]] = {PACKET.name: Counter(), LEG.name: Counter()}
        self.broken = False

    def packet(self, flow: Flow, tap: int, data: bytes, at_ns: int, tos: int) -> None:
        """Keep one RTP packet, at least its fixed header long, seen at a tap."""
        self.captured += 1
        if len(self.packets) >= self._capacity:
            self.shed[PACKET.name]["full"] += 1
            self.broken = True  # later sequence numbers will show a gap that the network did not make
            return
        self.packets.append((flow.session or flow, tap, at_ns, tos, len(data), data[:HEAD_BYTES], flow.audio_level_id))

    def leg(self, row: LegRow) -> None:
        """Keep one RTT sample."""
        if len(self.legs) >= self._capacity:
            self.shed[LEG.name]["full"] += 1
            return
        self.legs.append(row)

    def take(self) -> tuple[list[PacketRow], list[LegRow], bool]:
        """Hand over all rows, and whether packets were shed among them; start afresh."""
        taken = self.packets, self.legs, self.broken
        self.packets, self.legs, self.broken = [], [], False
        return taken
