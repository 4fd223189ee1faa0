from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from aiortc import RTCCertificate, RTCDtlsParameters
from aiortc.sdp import SessionDescription
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.answer import Local, write_answer
from relay.transceiver.errors import OfferError
from relay.transceiver.ice import SharedConnection
from relay.transceiver.offer import OFFER_BYTES_MAX, Offer, read_offer

CHROMIUM = (Path(__file__).parent / "chromium_offer.sdp").read_text()
DTLS = RTCDtlsParameters(RTCCertificate.generateCertificate().getFingerprints())


async def answer_to(offer: Offer) -> SessionDescription:
    connection = SharedConnection("A" * 19, ("192.0.2.7", 4444), lambda _data, _to: None, lambda _ns: None)
    local = Local(5, "A" * 19, connection.local_password, connection.candidate, DTLS, 77, "cname")
    return SessionDescription.parse(write_answer(offer, local))


async def test_chromium_offer_is_answered() -> None:
    offer = read_offer(CHROMIUM)
    assert (offer.payload_type, offer.audio_level_id, offer.dtls_role) == (111, 1, "client")
    assert offer.client_sends
    assert offer.client_receives
    assert offer.sctp is not None
    answer = await answer_to(offer)
    audio, data = answer.media
    assert [m.kind for m in answer.media] == ["audio", "application"]
    assert [m.rtp.muxId for m in answer.media] == ["0", "1"]
    assert answer.group[0].items == ["0", "1"]
    assert [(c.ip, c.port) for c in audio.ice_candidates] == [("192.0.2.7", 4444)]
    assert audio.ice_candidates_complete
    assert audio.dtls is not None
    assert audio.dtls.role == "client"
    (codec,) = audio.rtp.codecs
    assert (codec.payloadType, codec.clockRate, codec.channels) == (111, 48_000, 2)
    assert codec.parameters["useinbandfec"] == 1
    assert audio.rtcp_mux
    assert audio.direction == "sendrecv"
    assert [x.id for x in audio.rtp.headerExtensions] == [1, 3]
    assert [feedback.type for feedback in codec.rtcpFeedback] == ["transport-cc"]
    assert data.sctp_port == 5000


@pytest.mark.parametrize("gone", ["a=rtcp-fb:111 transport-cc\r\n", "a=extmap:3 "])
async def test_feedback_is_answered_only_where_it_is_offered_whole(gone: str) -> None:
    crlf = CHROMIUM.replace("\r\n", "\n").replace("\n", "\r\n")
    offer = read_offer(crlf.replace(gone, "a=nothing:" if gone.endswith(" ") else ""))
    assert offer.transport_number_id is None
    audio = (await answer_to(offer)).media[0]
    assert [x.id for x in audio.rtp.headerExtensions] == [1]
    assert not audio.rtp.codecs[0].rtcpFeedback


def test_reduced_size_counts_only_in_the_audio_section() -> None:
    assert read_offer(CHROMIUM).reduced_size
    without = CHROMIUM.replace("a=rtcp-rsize", "a=nothing")
    assert not read_offer(without).reduced_size
    assert not read_offer(without.replace("a=mid:1", "a=mid:1\r\na=rtcp-rsize")).reduced_size


async def test_video_is_refused_and_keeps_its_place() -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\na=sendrecv\r\na=rtcp-mux\r\n"
    video += "a=setup:actpass\r\na=rtpmap:96 VP8/90000\r\n"
    at = CHROMIUM.index("m=application")
    answer = await answer_to(read_offer(CHROMIUM[:at] + video + CHROMIUM[at:]))
    assert [(m.kind, m.port != 0) for m in answer.media] == [("audio", True), ("video", False), ("application", True)]
    assert answer.group[0].items == ["0", "1"]


@pytest.mark.parametrize(
    ("offered", "answered"), [("sendonly", "recvonly"), ("recvonly", "sendonly"), ("sendrecv", "sendrecv")]
)
async def test_direction_is_mirrored(offered: str, answered: str) -> None:
    answer = await answer_to(read_offer(CHROMIUM.replace("a=sendrecv", f"a={offered}")))
    assert answer.media[0].direction == answered


def test_candidates_in_the_offer_are_not_even_parsed() -> None:
    broken = CHROMIUM.replace("a=mid:0", "a=candidate:nonsense\r\na=end-of-candidates\r\na=mid:0")
    assert read_offer(broken) == read_offer(CHROMIUM)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("opus/48000/2", "nothing/48000/2"), "no audio section with Opus"),
        (("a=sendrecv", "a=inactive"), "no audio section"),
        (("a=group:BUNDLE 0 1", "a=group:BUNDLE 1"), "no audio section"),
        (("a=rtcp-mux", "a=nothing"), "rtcp-mux"),
        (("a=ice-pwd:", "a=nothing:"), "ice-pwd"),
        (("a=fingerprint:sha-256", "a=fingerprint:md5"), "fingerprint"),
        (("a=setup:actpass", "a=nothing"), "setup"),
        (("m=audio", "m=audio x"), "not valid SDP"),
    ],
)
def test_what_cannot_be_a_call_is_refused_with_the_reason(change: tuple[str, str], words: str) -> None:
    with pytest.raises(OfferError, match=words):
        read_offer(CHROMIUM.replace(*change))


def test_offer_is_bounded() -> None:
    with pytest.raises(OfferError, match="longer than"):
        read_offer(CHROMIUM + "a=x\r\n" * OFFER_BYTES_MAX)


@given(st.lists(st.integers(0, len(CHROMIUM) - 1), max_size=10), st.text(max_size=3))
def test_damaged_offers_are_refused_or_read_but_never_crash(at: list[int], noise: str) -> None:
    damaged = CHROMIUM
    for position in at:
        damaged = damaged[:position] + noise + damaged[position + 1 :]
    with suppress(OfferError):
        assert read_offer(damaged).sections
