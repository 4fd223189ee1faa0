"""RTCP of one call (RFC 3550, section 6): what we report, and the round trips that the client's reports show.

Once a second a report on the client's stream; where the offer asks for it, ten times a second what of its packets has
come when (see `voice.twcc`), which is what a browser adapts its own sending by.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from voice import twcc
from voice.rtp import RtpError, element
from voice.sender import Report
from voice.sequence import StreamStats

REPORTS_REMEMBERED: Final = 16
"""Sender reports of ours that a client may still refer to: some 16 s."""

ROUND_TRIP_MAX_S: Final = 60
"""What a client reports beyond it is no round trip: anything below nine hours could be written in a report block."""

_NTP_UNIX_S: Final = 2_208_988_800  # 1900 to 1970
_NS: Final = 1_000_000_000
_CNAME: Final = 1
_CLOCK_RATE: Final = 48_000  # Opus (RFC 7587, section 4.1)


def ntp(utc_ns: int) -> int:
    """Return a 64 bit NTP timestamp (RFC 3550, section 4)."""
    seconds, rest = divmod(utc_ns, _NS)
    return (seconds + _NTP_UNIX_S) << 32 | (rest << 32) // _NS


def middle(ntp_timestamp: int) -> int:
    """Return the middle 32 bits, as LSR holds them."""
    return ntp_timestamp >> 16 & 0xFFFFFFFF


def round_trip_us(arrival_ns: int, lsr: int, dlsr: int) -> int | None:
    """Return A - LSR - DLSR in microseconds (RFC 3550, section 6.4.1); None where it cannot be."""
    if not lsr or not dlsr:
        return None
    trip = (middle(ntp(arrival_ns)) - lsr - dlsr) & 0xFFFFFFFF
    return None if trip > ROUND_TRIP_MAX_S << 16 else trip * 1_000_000 >> 16


class Rtcp:
    """Both directions of one call's RTCP.

    Args:
        ssrc: our stream's.
        cname: our canonical name (RFC 3550, section 6.5.1).
        transport_number_id: header extension id of transport-wide numbers; None: no feedback on them.
        reduced_size: whether feedback may go without a report before it (RFC 5506).

    """

    def __init__(
        self, ssrc: int, cname: str, *, transport_number_id: int | None = None, reduced_size: bool = False
    ) -> None:
        self._ssrc = ssrc
        self._cname = cname.encode()
        self._transport_number_id = transport_number_id
        self._before_feedback = b"" if reduced_size else bytes(RtcpRrPacket(ssrc)) + self._name()
        self._transport = twcc.Recorder()
        self._transport_ssrc = 0
        self._sent: deque[int] = deque(maxlen=REPORTS_REMEMBERED)
        self._remote: int | None = None
        self._remote_lsr = 0
        self._remote_arrival_ns = 0
        self.gone: frozenset[int] = frozenset()
        """Streams that the last BYE named (RFC 3550, section 6.6)."""

    def report(
        self, now_ns: int, rtp_ts: int, packets: int, octets: int, heard: tuple[int, StreamStats] | None
    ) -> bytes:
        """Return a compound packet: a report with a block on the client's stream, and our name.

        It is a sender report if we have sent anything, else a receiver report (RFC 3550, section 6.4).

        Args:
            now_ns: UTC nanoseconds of the instant to which `rtp_ts` corresponds.
            rtp_ts: on our stream's clock.
            packets: sent so far.
            octets: of payload sent so far.
            heard: the client's SSRC and its statistics.

        """
        blocks = [self._block(now_ns, *heard)] if heard is not None else []
        if not packets:
            return bytes(RtcpRrPacket(self._ssrc, blocks)) + self._name()
        timestamp = ntp(now_ns)
        self._sent.append(middle(timestamp))
        info = RtcpSenderInfo(timestamp, rtp_ts & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
        return bytes(RtcpSrPacket(self._ssrc, info, blocks)) + self._name()

    def arrived(self, packet: bytes, arrival_ns: int) -> None:
        """Take note of an authentic RTP packet of the client's, of whatever stream, for `feedback`."""
        if self._transport_number_id is None:
            return
        try:
            number = element(packet, self._transport_number_id)
        except RtpError:
            return
        if number is not None and len(number) == 2:  # noqa: PLR2004 - 16 bits
            self._transport.receive(int.from_bytes(number, "big"), arrival_ns)
            self._transport_ssrc = int.from_bytes(packet[8:12], "big")

    def feedback(self) -> list[bytes]:
        """Return packets that tell what arrived since the last call; none if nothing did."""
        messages = self._transport.take(self._ssrc, self._transport_ssrc)
        return [self._before_feedback + twcc.pack(message) for message in messages]

    def goodbye(self) -> bytes:
        """Return a compound packet that ends our stream (RFC 3550, section 6.6)."""
        return bytes(RtcpRrPacket(self._ssrc)) + bytes(RtcpByePacket([self._ssrc]))

    def received(self, data: bytes, arrival_ns: int) -> list[Report] | None:
        """Take a compound packet of the client's; return what it says of our stream. None: malformed."""
        try:
            packets = RtcpPacket.parse(data)
        except (ValueError, struct.error, IndexError):
            return None
        reports = []
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                self._remote = packet.ssrc
                self._remote_lsr = middle(packet.sender_info.ntp_timestamp)
                self._remote_arrival_ns = arrival_ns
            if isinstance(packet, RtcpSrPacket | RtcpRrPacket):
                for block in packet.reports:
                    if block.ssrc != self._ssrc or block.lsr not in self._sent:
                        continue
                    trip = round_trip_us(arrival_ns, block.lsr, block.dlsr)
                    reports.append(
                        Report(
                            arrival_ns,
                            block.fraction_lost / 256,  # RFC 3550, section 6.4.1
                            None if trip is None else trip / 1000,
                            block.jitter * 1000 / _CLOCK_RATE,
                        )
                    )
            elif isinstance(packet, RtcpByePacket):
                self.gone = frozenset(packet.sources)
        return reports

    def _name(self) -> bytes:
        return bytes(RtcpSdesPacket([RtcpSourceInfo(self._ssrc, [(_CNAME, self._cname)])]))

    def _block(self, now_ns: int, ssrc: int, stats: StreamStats) -> RtcpReceiverInfo:
        loss = stats.report()
        known = self._remote == ssrc and self._remote_lsr != 0
        delay = (now_ns - self._remote_arrival_ns) * 65_536 // _NS if known else 0
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=loss.fraction_lost,
            packets_lost=loss.cumulative_lost,
            highest_sequence=loss.ext_max,
            jitter=int(stats.jitter_s * stats.clock_rate) & 0xFFFFFFFF,
            lsr=self._remote_lsr if known else 0,
            dlsr=max(0, min(0xFFFFFFFF, delay)),
        )
