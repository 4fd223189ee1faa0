"""How large voice packets are: those of recorded speech, encoded as callers encode it."""

from __future__ import annotations

import random
from typing import Final

from relay.opus import FRAME_SAMPLES, Encoder
from relay.speech import clip

AROUND_BYTES: Final = 12 + 8 + 10  # RTP header, audio level extension (RFC 6464), SRTP tag (RFC 3711)
_SEED: Final = 5


def speech_bytes(packets: int) -> list[int]:
    """Return the sizes of so many SRTP packets of 20 ms of Opus at a variable 32 kbit/s, as many callers mix them."""
    sizes = []
    for name in clip.names():
        pcm, encoder = clip.load(name).pcm, Encoder()
        frames = range(0, len(pcm) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        sizes += [AROUND_BYTES + len(encoder.encode(pcm[at : at + FRAME_SAMPLES])) for at in frames]
    return random.Random(_SEED).choices(sizes, k=packets)
