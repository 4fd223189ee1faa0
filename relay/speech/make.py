"""Make the shipped clips: `python -m relay.speech.make` (needs espeak-ng; only to change what is said)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import av
import numpy as np

from relay.speech.clip import CLIPS, RATE, Pcm, SpeechError, texts
from relay.speech.synthesis import synthesise

BIT_RATE: Final = 32_000
"""Bit/s; transparent for wideband speech, and small enough to commit."""


def write_opus(path: Path, pcm: Pcm) -> None:
    """Write mono int16 48 kHz samples as Ogg Opus."""
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> int:
    """Make every clip in clips.toml anew."""
    CLIPS.mkdir(exist_ok=True)
    for name, said in texts().items():
        try:
            pcm = synthesise(said["text"], said["voice"]).pcm
        except SpeechError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        path = CLIPS / f"{name}.opus"
        write_opus(path, pcm)
        sys.stdout.write(f"{name:24} {len(pcm) / RATE:5.2f} s {path.stat().st_size:7} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
