"""SDP offers: only `OfferError`, and whatever is accepted can be answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiortc import RTCCertificate, RTCDtlsParameters

from relay.transceiver.answer import Local, write_answer
from relay.transceiver.errors import OfferError
from relay.transceiver.offer import read_offer
from tests.fuzz.messages_of import UFRAGS, agent

MODULES: Final[tuple[str, ...]] = ("relay.transceiver.offer", "relay.transceiver.answer", "aiortc.sdp")

_CHROMIUM: Final = Path(__file__).parents[1] / "unit" / "transceiver" / "chromium_offer.sdp"
_DTLS: Final = RTCDtlsParameters(RTCCertificate.generateCertificate().getFingerprints(), "client")
_CANDIDATE: Final = agent().candidate


def seeds() -> Mapping[str, bytes]:
    """A browser's offer, and the least that is accepted."""
    least = (
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"
        "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n"
        f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\n"
    )
    return {"chromium": _CHROMIUM.read_bytes()[:8_000], "least": least.encode()}


def run(data: bytes) -> None:
    """Read it; if it is accepted, answer it."""
    try:
        offer = read_offer(data.decode("utf-8", "replace"))
    except OfferError:
        return
    local = Local(
        session=1,
        ufrag=UFRAGS[0],
        password="p" * 24,
        candidate=_CANDIDATE,
        dtls=_DTLS,
        ssrc=1,
        cname="cname",
    )
    answer = write_answer(offer, local)
    assert answer.count("\r\nm=") == len(offer.sections), "an offered line got into the answer as one of its own"
