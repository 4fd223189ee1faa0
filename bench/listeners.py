"""Two receivers of one stream of Opus packets, in virtual time: ours, and the receive path of stock aiortc.

Both are asked for 20 ms of sound every 20 ms, as a sound card or a recogniser asks. Stock's path is what
`RTCRtpReceiver` does with an audio packet: its `JitterBuffer(capacity=16, prefetch=4)`, its Opus decoder, and a queue
from which the application takes a frame when it wants one; it finds silence there if nothing has come.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Protocol

import av
import numpy as np
import numpy.typing as npt
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterBuffer as StockBuffer
from aiortc.rtp import RtpPacket

from relay.opus import Decoder, OpusError
from relay.transceiver.decimate import Decimator
from voice.jitterbuffer import JitterBufferConfig
from voice.playback import FRAME_SAMPLES, Playback
from voice.vad import WebRtcVad

TICK_NS: Final = 20_000_000
_STOCK_CAPACITY: Final = 16
_STOCK_PREFETCH: Final = 4

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet on its way: number, RTP time, payload, when it was sent and when it arrives."""

    seq: int
    rtp_ts: int
    payload: bytes
    arrival_ns: int


@dataclass
class Told:
    """What a receiver made of a stream.

    Attributes:
        pcm: what was played, from the first tick on.
        kinds: ticks by kind; `starved` is a tick of silence in the middle of the stream.
        discarded: packets that came and were not played.
        delay_ms: per tick that played a packet, how long after its arrival undelayed by anything.

    """

    pcm: list[Pcm] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    discarded: int = 0
    delay_ms: list[tuple[float, float]] = field(default_factory=list)


class Listener(Protocol):
    """A receiver under test."""

    told: Told

    def arrive(self, packet: Packet) -> None:
        """Take a packet at its time of arrival."""

    def tick(self, now_ns: int) -> None:
        """Play 20 ms."""

    def end(self) -> None:
        """Settle the counts."""


class Ours:
    """The transceiver's uplink: `voice.playback` over libopus, told of speech by the detector as in a call."""

    def __init__(self, config: JitterBufferConfig | None = None) -> None:
        self.told = Told()
        self._playback = Playback(Decoder(), OpusError, config)
        self._vad, self._decimate = WebRtcVad(2), Decimator()
        self._speech = False

    def arrive(self, packet: Packet) -> None:
        """See `Listener.arrive`."""
        self._playback.insert(packet.seq, packet.rtp_ts & 0xFFFFFFFF, packet.payload, packet.arrival_ns)

    def tick(self, now_ns: int) -> None:
        """See `Listener.tick`."""
        frame = self._playback.pop(now_ns, in_speech=self._speech)
        self._speech = self._vad.is_speech(self._decimate(frame.pcm))
        self.told.kinds[frame.kind] += 1
        self.told.pcm.append(frame.pcm)
        if frame.rtp_ts is not None:
            self.told.delay_ms.append((now_ns / 1e6, now_ns / 1e6 - frame.rtp_ts / 48))

    def end(self) -> None:
        """See `Listener.end`."""
        counts = self._playback.buffer.counts
        self.told.discarded = counts.discarded_late + counts.discarded + counts.overflow


class Stock:
    """aiortc's receive path around a clock of 20 ms."""

    def __init__(self) -> None:
        self.told = Told()
        self._buffer = StockBuffer(capacity=_STOCK_CAPACITY, prefetch=_STOCK_PREFETCH)
        self._decoder = OpusDecoder()
        self._queue: deque[tuple[int, Pcm]] = deque()
        self._seen: set[int] = set()
        self._played = 0
        self._starving = 0

    def arrive(self, packet: Packet) -> None:
        """See `Listener.arrive`."""
        if packet.seq in self._seen:
            return
        self._seen.add(packet.seq)
        rtp = RtpPacket(sequence_number=packet.seq & 0xFFFF, timestamp=packet.rtp_ts & 0xFFFFFFFF)
        rtp._data = packet.payload  # type: ignore[attr-defined] # noqa: SLF001 - RTCRtpReceiver sets it by depayload()
        _, encoded = self._buffer.add(rtp)
        if encoded is None:
            return
        try:
            frames = self._decoder.decode(encoded)
        except av.FFmpegError:
            return
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                stereo = frame.to_ndarray().reshape(-1, 2)
                self._queue.append((encoded.timestamp, stereo.mean(axis=1).astype(np.int16)))

    def tick(self, now_ns: int) -> None:
        """See `Listener.tick`."""
        if not self._queue:
            self._starving += bool(self._played)  # it counts only if something follows: a stream's end is no hole
            self.told.pcm.append(np.zeros(FRAME_SAMPLES, np.int16))
            return
        self.told.kinds["starved"] += self._starving
        self._starving = 0
        rtp_ts, pcm = self._queue.popleft()
        self._played += 1
        self.told.kinds["played"] += 1
        self.told.pcm.append(pcm)
        self.told.delay_ms.append((now_ns / 1e6, now_ns / 1e6 - rtp_ts / 48))

    def end(self) -> None:
        """See `Listener.end`."""
        self.told.discarded = len(self._seen) - self._played - len(self._queue)
