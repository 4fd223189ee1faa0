from __future__ import annotations

import struct

from aiortc.rtp import RtcpPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSdesPacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.rtcp import Rtcp, middle, ntp, round_trip_us
from voice import twcc
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


def numbered(number: int, identifier: int = 3) -> bytes:
    """An RTP packet with a transport-wide number."""
    fixed = struct.pack("!BBHII", 0x90, 111, number, number * 960, 9)
    return fixed + struct.pack("!HHBHx", 0xBEDE, 1, identifier << 4 | 1, number) + b"voice"


def test_feedback_tells_when_packets_came_and_only_once() -> None:
    ours = Rtcp(7, "name", transport_number_id=3, reduced_size=True)
    for number in (1, 2, 4):
        ours.arrived(numbered(number), UTC_NS + number * 20 * MS)
    ours.arrived(numbered(5, identifier=2), UTC_NS)
    ours.arrived(b"\x90\x6f", UTC_NS)
    (data,) = ours.feedback()
    message = twcc.parse(data)
    assert (message.sender_ssrc, message.media_ssrc, message.base, len(message.arrivals)) == (7, 9, 1, 4)
    first, second, lost, fourth = message.arrivals
    assert first is not None
    assert (second, lost, fourth) == (first + 80, None, first + 240)
    assert ours.feedback() == []


def test_feedback_follows_a_report_where_reduced_size_was_not_agreed() -> None:
    ours = Rtcp(7, "name", transport_number_id=3)
    ours.arrived(numbered(1), UTC_NS)
    (data,) = ours.feedback()
    assert [type(packet) for packet in RtcpPacket.parse(data[:-24])] == [RtcpRrPacket, RtcpSdesPacket]
    assert twcc.parse(data[-24:]).arrivals[0] is not None


def test_without_agreement_there_is_no_feedback() -> None:
    ours = Rtcp(7, "name")
    ours.arrived(numbered(1), UTC_NS)
    assert ours.feedback() == []


def test_without_a_stream_of_ours_it_is_a_receiver_report() -> None:
    stats = StreamStats()
    stats.receive(1, 960, UTC_NS)
    report, name = RtcpPacket.parse(Rtcp(7, "name").report(UTC_NS, 0, 0, 0, (9, stats)))
    assert isinstance(report, RtcpRrPacket)
    assert [block.ssrc for block in report.reports] == [9]
    assert isinstance(name, RtcpSdesPacket)


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
    assert ours.gone == {9}
