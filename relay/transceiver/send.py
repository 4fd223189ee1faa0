"""The agent's voice on its way out: PCM frames to Opus to RTP, one packet every 20 ms whether it speaks or not.

A stream without gaps lets the client, and every tap on the way, see each loss; what is voice and what is comfort
silence, the level says (RFC 6464), and the marker the start of each talk spurt (RFC 7587, section 4.3). Two things may
change that: longer packets, where the sender's policy wants them (see `voice.sender`), and DTX, if it is switched on:
a packet every 400 ms while the agent is silent, and timestamps that go on (RFC 7587, section 3.1.3).
"""

from __future__ import annotations

import secrets
import struct
from typing import Final, NamedTuple

import numpy as np

from relay.models import FRAME_MS, FRAME_SAMPLES, Pcm
from relay.opus import Encoder
from voice.rtp import RtpHeader
from voice.sender import SenderSettings
from voice.vad import MIN_DBOV, level_dbov

_HEADER: Final = struct.Struct("!BBHII")
_EXTENSION: Final = struct.Struct("!HHBBxx")  # RFC 8285, section 4.2: one element of one byte, padded to a word
_VERSION: Final = 2 << 6
_HAS_EXTENSION: Final = 1 << 4
_ONE_BYTE_PROFILE: Final = 0xBEDE
SETTLED_FRAMES: Final = 25
"""After half a second of silence the encoder has nothing left to say of what came before: its packet is repeated, not
made again, until somebody speaks. An agent is silent for most of a call, and encoding is most of a call's work."""

DTX_FRAMES: Final = 20
"""With DTX, of so many settled frames of silence one is sent: as often as libopus's own DTX does."""

_SILENCE: Final = np.zeros(FRAME_SAMPLES, np.int16)


class Packet(NamedTuple):
    """One packet, before SRTP. `level_dbov` is exact; the header holds it in whole dB."""

    data: bytes
    header: RtpHeader
    payload: bytes
    level_dbov: float
    voiced: bool


class AgentVoice:
    """Encodes and packetises; counts what it made."""

    def __init__(
        self,
        payload_type: int,
        audio_level_id: int | None,
        *,
        settings: SenderSettings,
        voiced_dbov: float,
        dtx: bool = False,
    ) -> None:
        self.ssrc = secrets.randbits(32)
        self.packets = 0
        self.octets = 0
        self._payload_type = payload_type
        self._audio_level_id = audio_level_id
        self._voiced_dbov = voiced_dbov
        self._dtx = dtx
        self._encoder = Encoder(settings.bitrate_bps)
        self.configure(settings)
        # The lower half, so that a wrap does not come before the receiver's SRTP state is settled (RFC 3711, 3.3.1).
        self._sequence_number = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self._talking = False
        self._gathered: list[Pcm] = []
        self._silent_frames = 0
        self._silent_payload = b""

    @property
    def timestamp(self) -> int:
        """RTP timestamp of the next frame."""
        return self._timestamp + len(self._gathered) * FRAME_SAMPLES & 0xFFFFFFFF

    @property
    def gathered(self) -> int:
        """Frames that wait for the rest of their packet."""
        return len(self._gathered)

    def is_voiced(self, pcm: Pcm) -> bool:
        """Whether a frame counts as voice."""
        return level_dbov(pcm) >= self._voiced_dbov

    def configure(self, settings: SenderSettings) -> None:
        """Send differently from the next packet on."""
        self._encoder.configure(
            settings.bitrate_bps, fec=settings.fec, expected_loss_percent=settings.expected_loss_percent
        )
        self._frames = settings.ptime_ms // FRAME_MS

    def skip(self, ticks: int) -> None:
        """Let time pass without packets; what was gathered for one is given up."""
        self._timestamp = self._timestamp + (ticks + len(self._gathered)) * FRAME_SAMPLES & 0xFFFFFFFF
        self._gathered.clear()

    def packet(self, pcm: Pcm | None) -> Packet | None:
        """Take the next 20 ms, None for silence; return the packet that they complete, None if nothing is sent now."""
        if not self._gathered and pcm is None and self._silent_frames >= SETTLED_FRAMES and self._silent_payload:
            self._silent_frames += 1
            if self._silent_frames % (DTX_FRAMES if self._dtx else self._frames):
                self._talking = False
                self.skip(1)
                return None
            return self._finish(self._silent_payload, None, 1)
        self._silent_frames = self._silent_frames + 1 if pcm is None else 0
        self._gathered.append(_SILENCE if pcm is None else pcm)
        if len(self._gathered) < self._frames:
            return None
        frames = len(self._gathered)
        whole = self._gathered[0] if frames == 1 else np.concatenate(self._gathered)
        self._gathered.clear()
        payload = self._encoder.encode(whole)
        if self._silent_frames >= SETTLED_FRAMES:
            self._silent_payload = payload if frames == 1 else self._encoder.encode(_SILENCE)
        return self._finish(payload, whole, frames)

    def _finish(self, payload: bytes, pcm: Pcm | None, frames: int) -> Packet:
        level = MIN_DBOV if pcm is None else level_dbov(pcm)
        voiced = level >= self._voiced_dbov
        marker = voiced and not self._talking
        self._talking = voiced
        whole_level = max(-127, min(0, round(level)))
        extension = b""
        if self._audio_level_id is not None:
            extension = _EXTENSION.pack(_ONE_BYTE_PROFILE, 1, self._audio_level_id << 4, voiced << 7 | -whole_level)
        head = _HEADER.pack(
            _VERSION | (_HAS_EXTENSION if extension else 0),
            marker << 7 | self._payload_type,
            self._sequence_number,
            self._timestamp,
            self.ssrc,
        )
        header = RtpHeader(
            payload_type=self._payload_type,
            marker=marker,
            sequence_number=self._sequence_number,
            timestamp=self._timestamp,
            ssrc=self.ssrc,
            header_bytes=len(head) + len(extension),
            audio_level_dbov=whole_level if extension else None,
            voice_activity=voiced if extension else None,
            csrcs=(),
            padding=False,
        )
        self._sequence_number = self._sequence_number + 1 & 0xFFFF
        self._timestamp = self._timestamp + frames * FRAME_SAMPLES & 0xFFFFFFFF
        self.packets += 1
        self.octets += len(payload)
        return Packet(head + extension + payload, header, payload, level, voiced)
