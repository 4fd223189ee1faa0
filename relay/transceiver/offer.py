"""Reading a client's SDP offer: what of it a voice call uses, and refusing what it cannot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aiortc import RTCDtlsParameters, RTCIceParameters, RTCRtpCodecParameters
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS
from aiortc.rtcsctptransport import RTCSctpCapabilities
from aiortc.sdp import MediaDescription, SessionDescription

from relay.transceiver.errors import OfferError
from voice import twcc

OFFER_BYTES_MAX: Final = 65_536
"""Chromium's offer for one audio track and a data channel has 4 to 6 kB, half of it candidates."""

MEDIA_SECTIONS_MAX: Final = 32

AUDIO_LEVEL_URI: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
"""RFC 6464."""

_ONE_BYTE_EXTENSION_ID_MAX: Final = 14  # RFC 8285, section 4.2
_BITRATE_MIN_BPS, _BITRATE_MAX_BPS = 6_000, 510_000  # RFC 7587, section 6.1
_MAX_PTIME: Final = re.compile(r"^a=maxptime:(\d{1,4})\s*$", re.MULTILINE)
_MAX_PTIME_MS: Final = 120  # RFC 7587, section 6.1: without a=maxptime
_SECTION: Final = re.compile(r"^m=", re.MULTILINE)
_REDUCED_SIZE: Final = re.compile(r"^a=rtcp-rsize\s*$", re.MULTILINE)
_ROLES: Final = {"auto": "client", "client": "server", "server": "client"}
_PARSE_ERRORS: Final = (ValueError, AssertionError, KeyError, IndexError, TypeError, AttributeError, StopIteration)


@dataclass(frozen=True, slots=True)
class Section:
    """One media section of the offer, in its order, as the answer must mirror it. `accepted` ones share a transport."""

    kind: str
    profile: str
    formats: tuple[str, ...]
    mid: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """What a call needs of an offer.

    Attributes:
        sections: all media sections, in order.
        payload_type: the client's for Opus.
        opus_parameters: the client's `fmtp` for it.
        audio_level_id: header extension id for RFC 6464, or None.
        transport_number_id: header extension id of transport-wide numbers if feedback on them is offered, or None.
        reduced_size: whether RTCP packets need not begin with a report (`a=rtcp-rsize`, RFC 5506).
        max_bitrate_bps: what the client's decoder takes (`maxaveragebitrate`, RFC 7587, section 6.1).
        max_ptime_ms: longest packet that it takes (`a=maxptime`).
        client_sends: whether we are to hear the client.
        client_receives: whether the client is to hear us.
        ice: remote ufrag and password.
        dtls: remote fingerprints.
        dtls_role: ours.
        sctp: remote data channel port and capabilities, or None.

    """

    sections: tuple[Section, ...]
    payload_type: int
    opus_parameters: str
    audio_level_id: int | None
    transport_number_id: int | None
    reduced_size: bool
    max_bitrate_bps: int
    max_ptime_ms: int
    client_sends: bool
    client_receives: bool
    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    dtls_role: str
    sctp: tuple[int, RTCSctpCapabilities] | None


def read_offer(sdp: str) -> Offer:
    """Read an offer.

    Candidates are ignored: clients are learnt from the checks that they send (RFC 8445, section 7.3.1.3), through the
    edge; an address that merely stands in an offer is never sent to.

    Raises:
        OfferError: it is malformed, too long, or offers no call that can be held.

    """
    if len(sdp) > OFFER_BYTES_MAX:
        raise OfferError(f"the offer is longer than {OFFER_BYTES_MAX} bytes")
    try:
        description = SessionDescription.parse(_without_candidates(sdp))
    except _PARSE_ERRORS as error:
        raise OfferError(f"the offer is not valid SDP: {type(error).__name__} {error}".rstrip()) from error
    if not description.media or len(description.media) > MEDIA_SECTIONS_MAX:
        raise OfferError(f"the offer has {len(description.media)} media sections; a call has 1 to {MEDIA_SECTIONS_MAX}")
    bundle = _bundle(description)
    audio = next((m for m in description.media if _usable_audio(m, bundle)), None)
    if audio is None:
        raise OfferError("the offer has no audio section with Opus at 48 kHz that is sent or received (RFC 7587)")
    if not audio.rtcp_mux:
        raise OfferError("the audio section lacks a=rtcp-mux (RFC 8834, section 4.5)")
    opus = _opus(audio)
    if opus.payloadType is None:
        raise OfferError("Opus has no payload type in the offer")
    data = next((m for m in description.media if _usable_data(m, bundle)), None)
    accepted = [m for m in description.media if m is audio or m is data]
    first = accepted[0]  # its transport is the bundle's (RFC 9143, section 7.2.1)
    return Offer(
        sections=tuple(
            Section(m.kind, m.profile, tuple(map(str, m.fmt)), m.rtp.muxId or "", m in accepted)
            for m in description.media
        ),
        payload_type=opus.payloadType,
        opus_parameters=_parameters(opus),
        audio_level_id=_extension_id(audio, AUDIO_LEVEL_URI),
        transport_number_id=_transport_number_id(audio, opus),
        reduced_size=_reduced_size(sdp, description.media.index(audio)),
        max_bitrate_bps=_max_bitrate(opus),
        max_ptime_ms=_max_ptime(sdp),
        client_sends=audio.direction in ("sendrecv", "sendonly", None),
        client_receives=audio.direction in ("sendrecv", "recvonly", None),
        ice=_ice(first),
        dtls=_dtls(first),
        dtls_role=_ROLES[first.dtls.role if first.dtls else "auto"],
        sctp=None if data is None else _sctp(data),
    )


def _without_candidates(sdp: str) -> str:
    kept = (line for line in sdp.splitlines() if not line.startswith(("a=candidate", "a=end-of-candidates")))
    return "\r\n".join(kept) + "\r\n"


def _bundle(description: SessionDescription) -> set[str]:
    if len(description.media) == 1:
        return {description.media[0].rtp.muxId or ""}
    group = next((g for g in description.group if g.semantic == "BUNDLE"), None)
    return {str(mid) for mid in group.items} if group else set()


def _usable_audio(media: MediaDescription, bundle: set[str]) -> bool:
    return (
        media.kind == "audio"
        and media.port != 0
        and (media.rtp.muxId or "") in bundle
        and media.direction != "inactive"
        and any(codec.mimeType.lower() == "audio/opus" and codec.clockRate == 48_000 for codec in media.rtp.codecs)  # noqa: PLR2004
    )


def _usable_data(media: MediaDescription, bundle: set[str]) -> bool:
    return (
        media.kind == "application"
        and media.port != 0
        and (media.rtp.muxId or "") in bundle
        and media.sctp_port is not None
        and "SCTP" in media.profile
    )


def _opus(media: MediaDescription) -> RTCRtpCodecParameters:
    return next(codec for codec in media.rtp.codecs if codec.mimeType.lower() == "audio/opus")


def _parameters(codec: RTCRtpCodecParameters) -> str:
    return ";".join(key if value is None else f"{key}={value}" for key, value in codec.parameters.items())


def _extension_id(media: MediaDescription, uri: str) -> int | None:
    for extension in media.rtp.headerExtensions:
        if extension.uri == uri and 1 <= extension.id <= _ONE_BYTE_EXTENSION_ID_MAX:
            return extension.id
    return None


def _transport_number_id(media: MediaDescription, codec: RTCRtpCodecParameters) -> int | None:
    """Numbers without `a=rtcp-fb:… transport-cc` are for somebody else, and the other way round there are none."""
    if not any(feedback.type == "transport-cc" for feedback in codec.rtcpFeedback):
        return None
    return _extension_id(media, twcc.URI)


def _reduced_size(sdp: str, index: int) -> bool:
    """Whether the section has `a=rtcp-rsize`, read here because aiortc's parser leaves it out."""
    sections = _SECTION.split(sdp)[1:]
    return index < len(sections) and _REDUCED_SIZE.search(sections[index]) is not None


def _max_bitrate(codec: RTCRtpCodecParameters) -> int:
    asked = codec.parameters.get("maxaveragebitrate")
    if not isinstance(asked, int) or not _BITRATE_MIN_BPS <= asked <= _BITRATE_MAX_BPS:
        return _BITRATE_MAX_BPS
    return asked


def _max_ptime(sdp: str) -> int:
    """Return the shortest `a=maxptime` of the offer, read here because aiortc's parser leaves it out."""
    asked = [int(ms) for ms in _MAX_PTIME.findall(sdp)]
    return min([*asked, _MAX_PTIME_MS])


def _ice(media: MediaDescription) -> RTCIceParameters:
    ice = media.ice
    if ice is None or not ice.usernameFragment or not ice.password:
        raise OfferError("the offer lacks a=ice-ufrag or a=ice-pwd")
    if not (4 <= len(ice.usernameFragment) <= 256 and 22 <= len(ice.password) <= 256):  # noqa: PLR2004 - RFC 8839, 5.4
        raise OfferError("a=ice-ufrag or a=ice-pwd has not the length that RFC 8839 prescribes")
    return ice


def _dtls(media: MediaDescription) -> RTCDtlsParameters:
    if media.dtls is None or not media.dtls.fingerprints:
        raise OfferError("the offer lacks a=fingerprint or a=setup: only encrypted calls are taken")
    if not any(f.algorithm.lower() in X509_DIGEST_ALGORITHMS for f in media.dtls.fingerprints):
        raise OfferError(f"no fingerprint uses one of {', '.join(X509_DIGEST_ALGORITHMS)}")
    return media.dtls


def _sctp(media: MediaDescription) -> tuple[int, RTCSctpCapabilities]:
    port = media.sctp_port
    if port is None or not 0 < port < 65_536:  # noqa: PLR2004 - a 16 bit number
        raise OfferError(f"a=sctp-port {port} is no port")
    return port, media.sctpCapabilities or RTCSctpCapabilities(maxMessageSize=65_536)
