"""Writing the SDP answer: one bundled transport, Opus, a data channel, and the edge's address as the only candidate."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from aioice import Candidate
from aiortc import RTCDtlsParameters

from relay.transceiver.offer import AUDIO_LEVEL_URI, Offer, Section
from voice import twcc

SCTP_PORT: Final = 5_000
MESSAGE_BYTES_MAX: Final = 262_144
"""As much as `oai-events` reads; browsers close a channel on which they are given more to send."""
OPUS_PARAMETERS: Final = "minptime=20;useinbandfec=1;stereo=0;usedtx=0"
"""What we ask of the client's encoder (RFC 7587, section 6.1): redundancy, mono, and no gaps, so that a packet that is
missing was lost."""

_SETUP: Final = {"client": "active", "server": "passive"}


@dataclass(frozen=True, slots=True)
class Local:
    """Our side of the call. `session` is a number that names the description (RFC 8866, section 5.2)."""

    session: int
    ufrag: str
    password: str
    candidate: Candidate
    dtls: RTCDtlsParameters
    ssrc: int
    cname: str


def write_answer(offer: Offer, local: Local) -> str:
    """Return the answer, in the offer's order of sections."""
    bundle = " ".join(section.mid for section in offer.sections if section.accepted)
    lines = [
        "v=0",
        f"o=- {local.session} 1 IN {_address(local.candidate.host)}",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {bundle}",
        "a=msid-semantic:WMS *",
    ]
    for section in offer.sections:
        lines += _section(section, offer, local)
    return "\r\n".join(lines) + "\r\n"


def _section(section: Section, offer: Offer, local: Local) -> list[str]:
    if not section.accepted:
        head = [f"m={section.kind} 0 {section.profile} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0"]
        return [*head, *([f"a=mid:{section.mid}"] if section.mid else []), "a=inactive"]
    own = _audio(offer, local) if section.kind == "audio" else _data()
    formats = str(offer.payload_type) if section.kind == "audio" else "webrtc-datachannel"
    return [
        f"m={section.kind} {local.candidate.port} {section.profile} {formats}",
        f"c=IN {_address(local.candidate.host)}",
        *([f"a=mid:{section.mid}"] if section.mid else []),
        *own,
        f"a=candidate:{local.candidate.to_sdp()}",
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        *(f"a=fingerprint:{f.algorithm} {f.value}" for f in local.dtls.fingerprints if f.algorithm == "sha-256"),
        f"a=setup:{_SETUP[offer.dtls_role]}",
    ]


def _audio(offer: Offer, local: Local) -> list[str]:
    directions = {
        (True, True): "sendrecv",
        (True, False): "recvonly",
        (False, True): "sendonly",
        (False, False): "inactive",
    }
    lines = [
        f"a={directions[offer.client_sends, offer.client_receives]}",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=rtcp-mux",
        f"a=rtpmap:{offer.payload_type} opus/48000/2",
        f"a=fmtp:{offer.payload_type} {OPUS_PARAMETERS}",
        "a=ptime:20",
        "a=maxptime:20",
    ]
    if offer.audio_level_id is not None:
        lines.append(f"a=extmap:{offer.audio_level_id} {AUDIO_LEVEL_URI}")
    if offer.transport_number_id is not None:
        lines.append(f"a=extmap:{offer.transport_number_id} {twcc.URI}")
        lines.append(f"a=rtcp-fb:{offer.payload_type} transport-cc")
    if offer.reduced_size:
        lines.append("a=rtcp-rsize")
    if offer.client_receives:
        lines += [f"a=msid:{local.cname} agent", f"a=ssrc:{local.ssrc} cname:{local.cname}"]
    return lines


def _data() -> list[str]:
    return [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MESSAGE_BYTES_MAX}"]


def _address(host: str) -> str:
    try:
        return f"IP{ipaddress.ip_address(host).version} {host}"
    except ValueError:
        return "IP4 0.0.0.0"  # an edge advertised by name; the candidate carries the name
