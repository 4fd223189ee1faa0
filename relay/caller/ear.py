"""The caller's receiver: statistics of the arriving packets, a jitter buffer, a decoder, and how loud it comes out.

aiortc's own audio path holds 80 ms at least and mutes 300 ms for one lost packet; measuring a network through it would
measure it. Arrivals are counted on the datagrams as the socket gave them, before decryption (the RTP header is in clear
under SRTP, RFC 3711 §3.1), so that a packet that comes before the keys do is counted as arrived, which it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.caller.phrases import loud_windows
from relay.caller.records import Received
from relay.opus import FRAME_SAMPLES, Decoder, OpusError
from relay.speech.clip import WINDOW
from voice.playback import Playback
from voice.rtp import PacketKind, RtpError, RtpHeader, classify, parse_header, payload
from voice.sequence import StreamStats

STREAM_LIMIT: Final = 64
"""Streams counted per call; more are ignored, so that a confused sender cannot fill the memory."""

_QUIET: Final[NDArray[np.bool_]] = np.zeros(FRAME_SAMPLES // WINDOW, np.bool_)


@dataclass(slots=True)
class PlayoutCounts:
    """Playout in samples at 48 kHz, by the W3C's names and meanings (webrtc-stats, `inbound-rtp`)."""

    total_samples: int = 0
    concealed_samples: int = 0
    silent_concealed_samples: int = 0
    concealment_events: int = 0
    emitted: int = 0
    delay_s: float = 0.0
    """Sum over emitted samples of the time between their packet's arrival and their playout."""
    undecodable: int = 0
    """Packets that the decoder refused; not a W3C figure."""


class Ear:
    """Receives one agent's voice. A new SSRC is a new stream: it replaces the one that was played."""

    def __init__(self) -> None:
        self._streams: dict[int, StreamStats] = {}
        self._pending: tuple[RtpHeader, int] | None = None
        self._pending_ns = 0
        self._ssrc: int | None = None
        self._playback = Playback(Decoder(), OpusError)
        self._concealing = False
        self.playout = PlayoutCounts()
        """What was played so far."""
        self.playout_delay_ms: float | None = None
        """How long the packet played last had waited for it; None before the first."""

    @property
    def ssrc(self) -> int | None:
        """The stream that is played; None before its first packet."""
        return self._ssrc

    @property
    def stats(self) -> StreamStats | None:
        """Statistics of the stream that is played; None before its first packet."""
        return None if self._ssrc is None else self._streams[self._ssrc]

    @property
    def discarded(self) -> int:
        """Packets that came too late to be played or found the buffer full."""
        counts = self._playback.buffer.counts
        return counts.discarded_late + counts.discarded + counts.overflow

    @property
    def arrived(self) -> int:
        """RTP packets that arrived, duplicates included, over all streams."""
        return sum(stream.received for stream in self._streams.values())

    def received(self) -> list[Received]:
        """What arrived, by stream."""
        return [
            Received(ssrc, stream.received - stream.duplicates, stream.lost, stream.duplicates, stream.jitter_s)
            for ssrc, stream in self._streams.items()
        ]

    def datagram(self, data: bytes, now_ns: int) -> None:
        """Count a datagram as it came from the socket; anything but RTP is ignored. `now_ns` is monotonic."""
        self._pending = None
        if classify(data) is not PacketKind.RTP:
            return
        try:
            header = parse_header(data)
        except RtpError:
            return
        stream = self._streams.get(header.ssrc)
        if stream is None:
            if len(self._streams) >= STREAM_LIMIT:
                return
            stream = self._streams[header.ssrc] = StreamStats()
        arrival = stream.receive(header.sequence_number, header.timestamp, now_ns)
        if not arrival.duplicate and not arrival.stray:
            self._pending, self._pending_ns = (header, arrival.ext_seq), now_ns

    def decrypted(self, data: bytes) -> None:
        """Queue the plain text of the datagram given last for playout."""
        if self._pending is None:
            return
        (header, ext_seq), self._pending = self._pending, None
        try:
            opus = payload(data, header)
        except RtpError:
            return
        if header.ssrc != self._ssrc:
            self._ssrc = header.ssrc
            self._playback = Playback(Decoder(), OpusError)
        self._playback.insert(ext_seq, header.timestamp, opus, self._pending_ns)

    def play(self, due_ns: int, now_ns: int, *, in_speech: bool) -> NDArray[np.bool_]:
        """Play the next 20 ms.

        Args:
            due_ns: when the sound card wanted them, monotonic.
            now_ns: when it got them, monotonic.
            in_speech: the agent is speaking, so the buffer had better not cut a frame out.

        Returns:
            Which 2.5 ms windows are voiced, shape (8,).

        """
        refused = self._playback.malformed
        frame = self._playback.pop(due_ns, in_speech=in_speech)
        self.playout.undecodable += self._playback.malformed - refused
        if frame.kind == "silence":
            self._concealing = False
            return _QUIET
        waited_ns = self._playback.buffer.waited_ns
        if frame.kind == "played" and waited_ns is not None:
            waited_ns += now_ns - due_ns
            self.playout_delay_ms = waited_ns / 1e6
            self.playout.delay_s += waited_ns / 1e9 * FRAME_SAMPLES
            self.playout.emitted += FRAME_SAMPLES
        loud = loud_windows(frame.pcm)
        self._count(concealed=frame.kind == "concealed", loud=bool(loud.any()))
        return loud

    def _count(self, *, concealed: bool, loud: bool) -> None:
        self.playout.total_samples += FRAME_SAMPLES
        if concealed:
            self.playout.concealed_samples += FRAME_SAMPLES
            self.playout.silent_concealed_samples += 0 if loud else FRAME_SAMPLES
            self.playout.concealment_events += 0 if self._concealing else 1
        self._concealing = concealed
