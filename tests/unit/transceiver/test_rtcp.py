from __future__ import annotations

import struct

from aiortc.rtp import RtcpPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.rtcp import Rtcp, middle, ntp, round_trip_us
from voice.sequence import StreamStats

UTC_NS = 1_760_000_000_123_456_789
MS = 1_000_000


def test_round_trip_of_the_standard() -> None:
    # RFC 3550, section 6.4.1, figure 2: A, LSR and DLSR give 6.125 s.
    seconds, fraction = 0xB710, 0x8000
    arrival_ns = ((1 << 16) + seconds - 2_208_988_800 % 65_536) * 1_000_000_000 + fraction * 1_000_000_000 // 65_536
    assert middle(ntp(arrival_ns)) == 0xB7108000
    assert round_trip_us(arrival_ns, 0xB7052000, 0x00054000) == 6_125_000


def test_round_trip_is_unknown_without_a_report_or_when_it_would_be_negative() -> None:
    assert round_trip_us(UTC_NS, 0, 5) is None
    assert round_trip_us(UTC_NS, 5, 0) is None
    assert round_trip_us(UTC_NS, middle(ntp(UTC_NS)), 65_536) is None


def test_client_report_on_our_report_gives_the_round_trip() -> None:
    ours = Rtcp(7, "name")
    report = RtcpPacket.parse(ours.report(UTC_NS, 0, 1, 1, None))[0]
    assert isinstance(report, RtcpSrPacket)
    block = RtcpReceiverInfo(7, 0, 0, 0, 0, lsr=middle(report.sender_info.ntp_timestamp), dlsr=65_536 // 10)
    (heard,) = ours.received(bytes(RtcpRrPacket(9, [block])), UTC_NS + 150 * MS) or []
    assert heard.rtt_ms is not None
    assert abs(heard.rtt_ms - 50.0) < 0.1


def test_report_on_a_report_that_we_never_sent_is_not_believed() -> None:
    ours = Rtcp(7, "name")
    block = RtcpReceiverInfo(7, 0, 0, 0, 0, lsr=middle(ntp(UTC_NS)), dlsr=1)
    assert ours.received(bytes(RtcpRrPacket(9, [block])), UTC_NS + MS) == []


def test_our_report_tells_what_arrived_and_when_theirs_did() -> None:
    ours, stats = Rtcp(7, "name"), StreamStats()
    for number in (0, 1, 2, 4):
        stats.receive(number, number * 960, UTC_NS + number * 20 * MS)
    sent = RtcpSrPacket(9, RtcpSenderInfo(ntp(UTC_NS), 0, 4, 4))
    ours.received(bytes(sent), UTC_NS + 30 * MS)
    report = RtcpPacket.parse(ours.report(UTC_NS + 130 * MS, 0, 1, 1, (9, stats)))[0]
    assert isinstance(report, RtcpSrPacket)
    (block,) = report.reports
    assert (block.ssrc, block.packets_lost, block.fraction_lost, block.highest_sequence) == (9, 1, 256 // 5, 4)
    assert block.lsr == middle(ntp(UTC_NS))
    assert abs(block.dlsr - 6554) <= 1


@given(st.binary(max_size=200))
def test_whatever_arrives_never_raises(data: bytes) -> None:
    Rtcp(7, "name").received(data, UTC_NS)


@given(st.integers(0, 31), st.sampled_from([200, 201, 202, 203, 205, 206]), st.binary(max_size=120))
def test_whatever_arrives_in_the_shape_of_rtcp_never_raises(count: int, kind: int, body: bytes) -> None:
    body += bytes(-len(body) % 4)
    Rtcp(7, "name").received(struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body, UTC_NS)


def test_goodbye_is_heard() -> None:
    theirs, ours = Rtcp(9, "their name"), Rtcp(7, "name")
    assert ours.received(theirs.goodbye(), UTC_NS) == []
    assert ours.bye
