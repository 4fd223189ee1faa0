"""The agent's voice on its way out: PCM frames to Opus to RTP, one packet every 20 ms whether it speaks or not.

A stream without gaps lets the client, and every tap on the way, see each loss; what is voice and what is comfort
silence, the level says (RFC 6464), and the marker the start of each talk spurt (RFC 7587, section 4.3).
"""

from __future__ import annotations

import secrets
import struct
from typing import Final, NamedTuple

import numpy as np

from relay.models import FRAME_SAMPLES, Pcm
from relay.opus import Encoder
from voice.rtp import RtpHeader
from voice.vad import MIN_DBOV, level_dbov

_HEADER: Final = struct.Struct("!BBHII")
_EXTENSION: Final = struct.Struct("!HHBBxx")  # RFC 8285, section 4.2: one element of one byte, padded to a word
_VERSION: Final = 2 << 6
_HAS_EXTENSION: Final = 1 << 4
_ONE_BYTE_PROFILE: Final = 0xBEDE
SETTLED_FRAMES: Final = 25
"""After half a second of silence the encoder has nothing left to say of what came before: its packet is repeated, not
made again, until somebody speaks. An agent is silent for most of a call, and encoding is most of a call's work."""

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

    def __init__(self, payload_type: int, audio_level_id: int | None, *, bitrate_bps: int, voiced_dbov: float) -> None:
        self.ssrc = secrets.randbits(32)
        self.packets = 0
        self.octets = 0
        self._payload_type = payload_type
        self._audio_level_id = audio_level_id
        self._voiced_dbov = voiced_dbov
        self._encoder = Encoder(bitrate_bps)
        # The lower half, so that a wrap does not come before the receiver's SRTP state is settled (RFC 3711, 3.3.1).
        self._sequence_number = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self._talking = False
        self._silent_frames = 0
        self._silent_payload = b""

    @property
    def timestamp(self) -> int:
        """RTP timestamp of the next packet."""
        return self._timestamp

    def is_voiced(self, pcm: Pcm) -> bool:
        """Whether a frame counts as voice."""
        return level_dbov(pcm) >= self._voiced_dbov

    def skip(self, ticks: int) -> None:
        """Let time pass without packets."""
        self._timestamp = self._timestamp + ticks * FRAME_SAMPLES & 0xFFFFFFFF

    def packet(self, pcm: Pcm | None) -> Packet:
        """Make the next packet; None is silence."""
        level = MIN_DBOV if pcm is None else level_dbov(pcm)
        voiced = level >= self._voiced_dbov
        marker = voiced and not self._talking
        self._talking = voiced
        payload = self._encode(pcm)
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
        self._timestamp = self._timestamp + FRAME_SAMPLES & 0xFFFFFFFF
        self.packets += 1
        self.octets += len(payload)
        return Packet(head + extension + payload, header, payload, level, voiced)

    def _encode(self, pcm: Pcm | None) -> bytes:
        if pcm is not None:
            self._silent_frames = 0
            return self._encoder.encode(pcm)
        if self._silent_frames < SETTLED_FRAMES:
            self._silent_frames += 1
            self._silent_payload = self._encoder.encode(_SILENCE)
        return self._silent_payload
