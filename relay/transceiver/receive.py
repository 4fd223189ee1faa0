"""The user's voice on its way in: RTP to statistics, jitter buffer, Opus, 20 ms of speech or not.

aiortc's own receive path is not used: it gives up four good frames and mutes 300 ms for one lost packet, and decodes in
a thread per call. Here one lost packet costs its own length, concealed or repaired.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.models import FRAME_MS, FRAME_SAMPLES, Pcm
from relay.opus import Decoder, OpusError
from relay.transceiver.counters import Counters
from relay.transceiver.decimate import Decimator
from relay.transceiver.facts import SessionFacts
from relay.transceiver.mediaclock import MediaClock
from voice import opus
from voice.jitterbuffer import JitterBufferConfig
from voice.playback import Playback
from voice.rtp import RtpError, RtpHeader, parse_header, payload
from voice.sequence import Arrival, StreamStats
from voice.vad import Vad, level_dbov

TAP: Final = "transceiver_in"

STREAMS_MAX: Final = 8
"""Changes of SSRC that one client may make without a minute's peace; an honest one makes one in a call, if any."""

PEACE_NS: Final = 60_000_000_000

OVERTAKEN_NS: Final = 1_000_000_000
"""So long after a change, packets of the stream before are what the new one has overtaken, and no change back."""

RATE_KHZ: Final = FRAME_SAMPLES // FRAME_MS

_WINDOW: Final = 100  # RFC 3550 A.1, MAX_MISORDER: a replay from further back says nothing about this stream


class Heard(NamedTuple):
    """One tick of the user's voice.

    Attributes:
        pcm: 20 ms, 48 kHz mono.
        kind: as the `frame` fact has it.
        speech: the detector's verdict.
        at_ns: when the instant at which the frame begins would have arrived undelayed, UTC nanoseconds.
        audio_ms: the same on the user's media clock. A frame inserted to gain time begins where the next one does.
        probability: what the verdict rests on, if the detector works with probabilities.

    """

    pcm: Pcm
    kind: str
    speech: bool
    at_ns: int
    audio_ms: float
    probability: float | None = None


class UserVoice:
    """One call's uplink."""

    def __init__(
        self,
        facts: SessionFacts,
        counters: Counters,
        vad: Vad,
        payload_type: int,
        audio_level_id: int | None,
        config: JitterBufferConfig | None = None,
    ) -> None:
        self.ssrc: int | None = None
        self._facts = facts
        self._counters = counters
        self._vad = vad
        self._payload_type = payload_type
        self._audio_level_id = audio_level_id
        self._config = config
        self._streams = 0
        self._changed_ns = 0
        self._before: int | None = None
        self._ticks = 0
        self._begin(0.0)

    def _begin(self, audio_ms: float) -> None:
        self.stats = StreamStats()
        self._playback = Playback(Decoder(), OpusError, self._config)
        self._media = MediaClock(audio_ms)
        self._decimate = Decimator()
        self._next_ts: int | None = None
        self._speech = False

    def received(self, data: bytes, size_bytes: int, arrival_ns: int, playable_ns: int) -> None:
        """Take an unprotected RTP packet.

        Args:
            data: the packet.
            size_bytes: what came over the wire.
            arrival_ns: UTC nanoseconds, by the kernel.
            playable_ns: the same instant on the clock of `tick`.

        """
        try:
            header = parse_header(data, self._audio_level_id)
            packet = payload(data, header)
        except RtpError:
            return self._counters.drop("rtp_malformed")
        if header.payload_type != self._payload_type:
            return self._counters.drop("payload_type")
        if header.ssrc != self.ssrc and (refused := self._change(header.ssrc, playable_ns)) is not None:
            return self._counters.drop(refused)
        arrival = self._record(header, size_bytes, arrival_ns)
        if arrival.duplicate or not packet:
            return None
        self._facts.audio(TAP, header, arrival, packet, arrival_ns)
        self._media.packet(header.timestamp, round((opus.duration_ms(packet) or FRAME_MS) * RATE_KHZ), playable_ns)
        fate = self._playback.insert(arrival.ext_seq, header.timestamp, packet, playable_ns)
        if fate == "discarded_late":
            self._frame(arrival_ns, playable_ns, fate, header.timestamp)
        return None

    def _change(self, ssrc: int, now_ns: int) -> str | None:
        """Go on with another stream, or return why not. Where the user is on the media clock stays."""
        since_ns = now_ns - self._changed_ns
        if ssrc == self._before and since_ns < OVERTAKEN_NS:
            return "overtaken_stream"
        if since_ns >= PEACE_NS:
            self._streams = 0
        if self._streams >= STREAMS_MAX:
            return "too_many_streams"
        self._streams += 1
        self._before, self.ssrc, self._changed_ns = self.ssrc, ssrc, now_ns
        self._begin(0.0 if self._next_ts is None else self._media.audio_ms(self._next_ts))
        return None

    def replayed(self, data: bytes, size_bytes: int, arrival_ns: int) -> None:
        """Take note of an SRTP packet that libsrtp refused as already seen: the network delivered it twice."""
        try:
            header = parse_header(data, self._audio_level_id)
        except RtpError:
            return
        behind = ((self.stats.ext_max or 0) - header.sequence_number) % 65_536
        if header.ssrc == self.ssrc and behind < _WINDOW:
            self._record(header, size_bytes, arrival_ns)
        else:
            self._counters.drop("replayed")

    def tick(self, due_ns: int, now_ns: int, observed_ns: int) -> Heard | None:
        """Make the next 20 ms; None before the first packet.

        `due_ns` and `now_ns` are monotonic, `observed_ns` is the wall clock at `now_ns`.
        """
        if self.ssrc is None:
            return None
        refused = self._playback.malformed
        frame = self._playback.pop(due_ns, in_speech=self._speech)
        self._counters.drop("opus_malformed", self._playback.malformed - refused)
        self._speech = self._vad.is_speech(self._decimate(frame.pcm))
        self._frame(
            observed_ns,
            now_ns,
            frame.kind,
            frame.rtp_ts,
            lateness_us=(now_ns - due_ns) // 1000,
            level_dbov=level_dbov(frame.pcm),
            vad=self._speech,
        )
        self._ticks += 1
        begins = frame.rtp_ts if frame.rtp_ts is not None else self._next_ts
        begins_ns = None if begins is None else self._media.at_ns(begins)
        if begins is None or begins_ns is None:
            return None
        if frame.rtp_ts is not None:
            self._next_ts = frame.rtp_ts + FRAME_SAMPLES & 0xFFFFFFFF
        at_ns = begins_ns + observed_ns - now_ns  # to the wall clock as it stands now
        audio_ms = self._media.audio_ms(begins)
        return Heard(frame.pcm, frame.kind, self._speech, at_ns, audio_ms, self._vad.probability)

    def skip(self, ticks: int) -> None:
        """Count ticks that were given up; the buffer notices by itself."""
        self._ticks += ticks

    def _record(self, header: RtpHeader, size_bytes: int, arrival_ns: int) -> Arrival:
        arrival = self.stats.receive(header.sequence_number, header.timestamp, arrival_ns)
        self._counters.packets[TAP] += 1
        self._facts.packet(TAP, header, arrival, size_bytes, arrival_ns)
        return arrival

    def _frame(
        self,
        observed_ns: int,
        now_ns: int,
        kind: str,
        rtp_ts: int | None,
        *,
        lateness_us: int = 0,
        level_dbov: float | None = None,
        vad: bool | None = None,
    ) -> None:
        self._facts.frame(
            observed_ns,
            mono_ns=now_ns,
            direction="in",
            stream=self.ssrc,
            tick=self._ticks,
            kind=kind,
            rtp_ts=rtp_ts,
            lateness_us=lateness_us,
            underrun=False,  # what is missing here is the network's doing, and `kind` says so
            buffer_ms=self._playback.buffer_ms,
            target_ms=self._playback.buffer.target_ms,
            level_dbov=level_dbov,
            vad=vad,
        )
