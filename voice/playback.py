"""Packets of one stream to 20 ms of sound at a time: the jitter buffer's decisions, carried out with a decoder."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from voice import stretch
from voice.jitterbuffer import Inserted, JitterBuffer, JitterBufferConfig, Piece, PlayoutKind

FRAME_SAMPLES: Final = 960
"""20 ms at 48 kHz, which is Opus's RTP clock whatever its bandwidth (RFC 7587 §4.1)."""

_TS_MASK: Final = 0xFFFFFFFF

Pcm = npt.NDArray[np.int16]


class Decoder(Protocol):
    """What decodes: `relay.opus.Decoder`. Each returns int16 at 48 kHz mono and may raise what `refusal` names."""

    def decode(self, packet: bytes) -> Pcm:
        """Decode a packet."""

    def recover(self, next_packet: bytes, samples: int) -> Pcm:
        """Decode what was lost before a packet from its redundancy."""

    def conceal(self, samples: int) -> Pcm:
        """Invent what was lost."""

    def mark(self) -> None:
        """Remember the state."""

    def rewind(self) -> None:
        """Go back to the state remembered."""


class Frame(NamedTuple):
    """One tick.

    Attributes:
        kind: as the `frame` fact has it.
        pcm: `FRAME_SAMPLES` samples.
        rtp_ts: of the first of them; None before the first packet and for a tick that was put in.

    """

    kind: PlayoutKind
    pcm: Pcm
    rtp_ts: int | None


class Playback:
    """Receive buffer and decoder of one stream.

    Args:
        decoder: keeps the stream's state.
        refusal: what it raises for a malformed packet, which is then concealed.
        config: of the buffer; its clock rate and tick must be those of this module.

    """

    def __init__(self, decoder: Decoder, refusal: type[Exception], config: JitterBufferConfig | None = None) -> None:
        self.buffer = JitterBuffer(config)
        self.malformed = 0
        """Packets that the decoder refused."""
        self._decoder = decoder
        self._refusal = refusal
        self._held = np.zeros(0, np.int16)
        self._decoded = False  # by the last piece, not invented
        self._rewinds = False  # to before what was invented last: to silence no seam would be heard anyway

    @property
    def buffer_ms(self) -> float:
        """Audio waiting, packets and what is decoded already."""
        return self.buffer.buffer_ms + self._held.size * 1000 / self.buffer.config.clock_rate

    def insert(self, ext_seq: int, rtp_ts: int, payload: bytes, now_ns: int) -> Inserted:
        """Take a packet; see `JitterBuffer.insert`."""
        return self.buffer.insert(ext_seq, rtp_ts, payload, now_ns)

    def pop(self, now_ns: int, *, in_speech: bool = False) -> Frame:
        """Make the next 20 ms; see `JitterBuffer.pop`."""
        playout = self.buffer.pop(now_ns, held=self._held.size, in_speech=in_speech)
        refused = self.malformed
        parts = [self._decode(piece) for piece in playout.pieces]
        kind: PlayoutKind = playout.kind if self.malformed == refused else "concealed"
        if len(parts) == 1 and not self._held.size and playout.change == "none" and parts[0].size == FRAME_SAMPLES:
            return Frame(kind, parts[0], playout.rtp_ts)
        pcm = np.concatenate((self._held, *parts))
        if playout.change == "cut":
            pcm = stretch.cut(pcm, min(FRAME_SAMPLES, pcm.size - FRAME_SAMPLES))
        elif playout.change == "shorten" and pcm.size >= FRAME_SAMPLES + stretch.LAG_MAX:
            pcm = stretch.shorten(pcm)
        elif playout.change == "lengthen":
            pcm = stretch.lengthen(pcm)
        self._held = pcm[FRAME_SAMPLES:]
        return Frame(kind, pcm[:FRAME_SAMPLES], playout.rtp_ts)

    def _decode(self, piece: Piece) -> Pcm:
        pcm: Pcm | None = None
        try:
            if piece.kind == "packet":
                pcm = self._resume(piece) if piece.follows else self._decoder.decode(piece.payload)
            elif piece.kind == "fec":
                pcm = self._decoder.recover(piece.payload, piece.samples)
        except self._refusal:
            self.malformed += 1
        if piece.kind == "silence":
            self._rewinds = False
            return np.zeros(piece.samples, np.int16)
        if piece.kind == "conceal":
            if self._decoded:
                self._decoder.mark()
                self._rewinds = True
        else:
            self._rewinds = False
        self._decoded = piece.kind != "conceal"
        if pcm is None or pcm.size != piece.samples:
            pcm = self._decoder.conceal(piece.samples)
        return pcm[piece.skip :]

    def _resume(self, piece: Piece) -> Pcm:
        """Decode a packet that was waited for as if nothing had been made up meanwhile, and fade over to it."""
        if not self._rewinds or piece.samples < stretch.OVERLAP:
            return self._decoder.decode(piece.payload)
        tail = self._decoder.conceal(stretch.OVERLAP)
        self._decoder.rewind()
        pcm = self._decoder.decode(piece.payload)
        if pcm.size >= stretch.OVERLAP:
            pcm[: stretch.OVERLAP] = stretch.fade(tail, pcm[: stretch.OVERLAP])
        return pcm
