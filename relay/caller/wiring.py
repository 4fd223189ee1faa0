"""Where our caller reaches into aiortc (1.16) and aioice (0.13); every use of their internals is in this file.

aiortc has no public way to gather on loopback, to send packets with an audio level that are encoded already, to see a
datagram when it arrives, or to hand decrypted packets to another receiver than its own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap

from relay.caller.ear import Ear
from relay.caller.phrases import Frame
from voice.sequence import StreamStats

VOICE_DBOV: Final = -60
"""RFC 6464's V bit is set above this level."""

LOOPBACK: Final = "127.0.0.1"


class MicrophoneTrack(MediaStreamTrack):
    """Stands for the microphone in the peer connection; the sender's frames come past it (`use_microphone`)."""

    kind = "audio"

    async def recv(self) -> Any:
        """Never used.

        Raises:
            RuntimeError: always; the sender fetched a frame from the track, so aiortc works differently by now.

        """
        raise RuntimeError("aiortc fetched audio from the track and not from the microphone; it needs version 1.16")


class _WithVoiceFlag(HeaderExtensionsMap):
    """Sets RFC 6464's voice flag, which aiortc always leaves unset."""

    def set(self, values: HeaderExtensions) -> tuple[int, bytes]:
        if values.audio_level is not None:
            level = -int(values.audio_level[1])
            values.audio_level = (level > VOICE_DBOV, -level)
        return super().set(values)


class _StreamView:
    """Our statistics in the shape of aiortc's `StreamStatistics`, so that its receiver reports carry our numbers."""

    def __init__(self, stats: StreamStats) -> None:
        self._stats = stats
        self._block = stats.report()

    @property
    def fraction_lost(self) -> int:
        # aiortc reads this first of all fields, once per report (RFC 3550 A.3: for the interval since the last one).
        self._block = self._stats.report()
        return self._block.fraction_lost

    @property
    def packets_lost(self) -> int:
        return self._block.cumulative_lost

    @property
    def max_seq(self) -> int:
        return self._block.ext_max

    @property
    def jitter(self) -> int:
        return round(self._stats.jitter_s * self._stats.clock_rate)


def gather_on_loopback(transceiver: RTCRtpTransceiver) -> None:
    """Gather one host candidate, on loopback, which aioice leaves out: a caller never uses a real interface."""
    connection: Any = transceiver.sender.transport.transport._connection  # noqa: SLF001
    gather = connection.get_component_candidates

    async def on_loopback(component: int, addresses: list[str], timeout: int = 5) -> Any:  # noqa: ASYNC109 (theirs)
        del addresses
        return await gather(component=component, addresses=[LOOPBACK], timeout=timeout)

    connection.get_component_candidates = on_loopback


def use_microphone(sender: RTCRtpSender, next_frame: Callable[[], Awaitable[tuple[Frame, int]]]) -> None:
    """Let the sender take encoded frames from a microphone, with their audio level (RFC 6464)."""

    async def next_encoded_frame(_codec: object) -> RTCEncodedFrame:
        frame, timestamp = await next_frame()
        return RTCEncodedFrame([frame.payload], timestamp, frame.level_dbov)

    target: Any = sender
    target._next_encoded_frame = next_encoded_frame  # noqa: SLF001
    target._RTCRtpSender__rtp_header_extensions_map = _WithVoiceFlag()  # noqa: SLF001


def use_ear(receiver: RTCRtpReceiver, ear: Ear) -> None:
    """Give every datagram to the ear as it arrives, and every decrypted RTP packet past aiortc's receiver.

    The stock receiver is left with RTCP: its reports carry the ear's numbers, and its decoder waits for ever.
    """
    dtls: Any = receiver.transport
    ice: Any = receiver.transport.transport
    streams: dict[int, _StreamView] = getattr(receiver, "_RTCRtpReceiver__remote_streams")  # noqa: B009 (mangled)
    receive = ice._recv  # noqa: SLF001

    async def receive_and_count() -> bytes:
        data: bytes = await receive()
        ear.datagram(data, time.monotonic_ns())
        return data

    async def handle_rtp(data: bytes, arrival_time_ms: int) -> None:
        del arrival_time_ms
        ear.decrypted(data)
        if ear.ssrc is not None and ear.stats is not None and ear.ssrc not in streams:
            streams[ear.ssrc] = _StreamView(ear.stats)

    ice._recv = receive_and_count  # noqa: SLF001
    dtls._handle_rtp_data = handle_rtp  # noqa: SLF001


def time_consent_checks(transport: RTCDtlsTransport, on_rtt: Callable[[float], None]) -> None:
    """Report the round-trip time (seconds) of each answered ICE consent check (RFC 7675), sent about every 5 s.

    Only requests without retransmission are timed: of others nobody knows which one was answered (Karn's rule).
    """
    connection: Any = transport.transport._connection  # noqa: SLF001
    for protocol in connection._protocols:  # noqa: SLF001
        protocol.request = _timed(protocol.request, on_rtt)


def all_acknowledged(peer: RTCPeerConnection) -> bool:
    """Whether the other end has everything that was sent over data channels (`bufferedAmount` is only the unsent)."""
    sctp: Any = peer.sctp
    return sctp is None or not (sctp._data_channel_queue or sctp._outbound_queue or sctp._sent_queue)  # noqa: SLF001


def _timed(request: Callable[..., Awaitable[Any]], on_rtt: Callable[[float], None]) -> Callable[..., Awaitable[Any]]:
    async def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        answer = await request(*args, **kwargs)
        if kwargs.get("retransmissions") == 0:
            on_rtt(time.monotonic() - started)
        return answer

    return timed
