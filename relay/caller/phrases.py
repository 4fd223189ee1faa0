"""Clips as Opus packets, encoded once per process, with the exact position of every voiced stretch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.opus import FRAME_SAMPLES, Encoder
from relay.speech import Clip
from relay.speech.clip import EDGE_DBOV, WINDOW, Pcm
from voice.vad import level_dbov

PAUSE_MS: Final = 200
"""Silence of one speaker below this does not part his speech: the inter-pausal-unit convention of dGSLM."""

BITRATE_BPS: Final = 32_000

LOOKAHEAD: Final = 312
"""Samples by which libopus' output lags its input at 48 kHz in VoIP mode (the pre-skip of RFC 7845 §4.2)."""

SILENCE_DBOV: Final = -127
"""RFC 6464's level for digital silence."""

_SETTLE_FRAMES: Final = 25
_FULL_SCALE: Final = 32_768.0


@dataclass(frozen=True, slots=True)
class Frame:
    """20 ms of microphone signal.

    Attributes:
        payload: one Opus packet.
        level_dbov: RFC 6464 level, -127 … 0.
        voiced_until: what a level meter sees: samples to the end of the last voiced window, 0 if there is none.

    """

    payload: bytes
    level_dbov: int
    voiced_until: int = 0


@dataclass(frozen=True, slots=True)
class Phrase:
    """A clip ready to send.

    Attributes:
        clip: name of the clip.
        frames: frame k decodes to samples 960 k … 960 k + 959 of the clip: the encoder's look-ahead is taken out, so
            the truth about when a sample left needs no correction.
        spans: voiced stretches as (first sample, one past the last), parted by `PAUSE_MS` of silence or more.

    """

    clip: str
    frames: tuple[Frame, ...]
    spans: tuple[tuple[int, int], ...]


def phrase(clip: Clip) -> Phrase:
    """Encode a clip; takes about a millisecond per 50 ms of speech, so not while calls run."""
    count = -(-len(clip.pcm) // FRAME_SAMPLES)
    # Speech pushed back by one frame less the look-ahead comes out exactly one frame late: drop the first packet.
    ahead = FRAME_SAMPLES - LOOKAHEAD
    padded = np.zeros((count + 1) * FRAME_SAMPLES, np.int16)
    padded[ahead : ahead + len(clip.pcm)] = clip.pcm
    level = np.zeros(count * FRAME_SAMPLES, np.int16)
    level[: len(clip.pcm)] = clip.pcm
    encoder = Encoder(BITRATE_BPS)
    packets = [encoder.encode(frame) for frame in padded.reshape(-1, FRAME_SAMPLES)][1:]
    frames = tuple(
        Frame(packet, round(level_dbov(pcm)), _voiced_until(pcm))
        for packet, pcm in zip(packets, level.reshape(-1, FRAME_SAMPLES), strict=True)
    )
    return Phrase(clip.name, frames, voiced_spans(clip.pcm))


def _voiced_until(pcm: Pcm) -> int:
    loud = np.flatnonzero(loud_windows(pcm))
    return (int(loud[-1]) + 1) * WINDOW if len(loud) else 0


def voiced_spans(pcm: Pcm, threshold_dbov: float = EDGE_DBOV) -> tuple[tuple[int, int], ...]:
    """Voiced stretches of a signal, in samples, to the precision of one energy window (2.5 ms)."""
    loud = np.flatnonzero(loud_windows(pcm, threshold_dbov))
    if not len(loud):
        return ()
    gap = PAUSE_MS * 48 // WINDOW
    cuts = np.flatnonzero(np.diff(loud) > gap)
    starts = loud[np.concatenate(([0], cuts + 1))]
    ends = loud[np.concatenate((cuts, [len(loud) - 1]))] + 1
    return tuple((int(start) * WINDOW, int(end) * WINDOW) for start, end in zip(starts, ends, strict=True))


def loud_windows(pcm: Pcm, threshold_dbov: float = EDGE_DBOV) -> NDArray[np.bool_]:
    """Which windows of `WINDOW` samples are louder than the threshold; a shorter rest is left out."""
    whole = len(pcm) // WINDOW * WINDOW
    windows = pcm[:whole].astype(np.float32).reshape(-1, WINDOW)
    power = np.einsum("ij,ij->i", windows, windows) / WINDOW
    loud: NDArray[np.bool_] = power > (_FULL_SCALE * 10 ** (threshold_dbov / 20)) ** 2
    return loud


@functools.cache
def silence() -> Frame:
    """The packet sent while nobody speaks: what the encoder settles on for zeros."""
    encoder = Encoder(BITRATE_BPS)
    packet = b""
    for _ in range(_SETTLE_FRAMES):
        packet = encoder.encode(np.zeros(FRAME_SAMPLES, np.int16))
    return Frame(packet, SILENCE_DBOV)
