"""RTCP after SRTP: malformed is None, and a round trip is never negative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiortc.rtp import RtcpByePacket, RtcpReceiverInfo, RtcpRrPacket

from relay.transceiver.rtcp import ROUND_TRIP_MAX_S, Rtcp, middle, ntp
from voice.sequence import StreamStats

MODULES: Final[tuple[str, ...]] = ("relay.transceiver.rtcp", "aiortc.rtp")

_NOW_NS: Final = 1_760_000_000_000_000_000
_SSRC: Final = 7


def _report() -> tuple[Rtcp, bytes]:
    ours = Rtcp(_SSRC, "cname")
    stats = StreamStats()
    stats.receive(1, 960, _NOW_NS)
    return ours, ours.report(_NOW_NS, 960, 50, 8_000, (9, stats))


def seeds() -> Mapping[str, bytes]:
    """A sender report with a name, a receiver report on ours, a goodbye."""
    ours, report = _report()
    block = RtcpReceiverInfo(_SSRC, 3, 5, 70_000, 12, middle(ntp(_NOW_NS)), 65_536)
    return {
        "sender-report": report,
        "receiver-report": bytes(RtcpRrPacket(9, [block])),
        "goodbye": ours.goodbye(),
        "bye-alone": bytes(RtcpByePacket([9, 10])),
        "feedback": b"\x81\xcd\0\3" + bytes(12) + b"\x81\xce\0\2" + bytes(8),
    }


def run(data: bytes) -> None:
    """Take it as if the client had sent it, and report afterwards."""
    ours, _ = _report()
    for report in ours.received(data, _NOW_NS + 2_000_000_000) or ():
        assert report.rtt_ms is None or 0 <= report.rtt_ms <= ROUND_TRIP_MAX_S * 1_000
    stats = StreamStats()
    stats.receive(1, 960, _NOW_NS)
    assert ours.report(_NOW_NS + 3_000_000_000, 960, 50, 8_000, (9, stats))
