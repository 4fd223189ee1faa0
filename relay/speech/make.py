"""Make the shipped clips: `python -m relay.speech.make` (needs espeak-ng; only to change what is said)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import av
import numpy as np

from relay.speech.clip import CLIPS, RATE, Pcm, SpeechError, decode, shape, texts

BIT_RATE: Final = 32_000
"""Bit/s; transparent for wideband speech, and small enough to commit."""

WORDS_PER_MINUTE: Final = 165
_PAUSE: Final = re.compile(r"\s*\[\[(\d+)\]\]\s*")


def speak(espeak: str, voice: str, text: str) -> Pcm:
    """Synthesise a text with its pauses: 48 kHz mono int16, voiced at both ends.

    Each side of a pause is shaped by itself, so that the pause lasts as long as the text says, to the sample.
    """
    pieces = _PAUSE.split(text)
    parts: list[Pcm] = []
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        for index, piece in enumerate(pieces):
            if index % 2:
                parts.append(np.zeros(int(piece) * RATE // 1000, np.int16))
                continue
            command = [espeak, "-v", voice, "-s", str(WORDS_PER_MINUTE), "-w", str(wav), piece]
            subprocess.run(command, check=True)  # noqa: S603 (texts and voices are this package's own)
            spoken = shape(decode(wav))
            if spoken is None:
                raise SpeechError(f"espeak-ng said nothing for {piece!r}; change the text in clips.toml")
            parts.append(spoken)
    return np.concatenate(parts)


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
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        sys.stderr.write("espeak-ng is not installed; on Debian or Ubuntu: sudo apt-get install espeak-ng\n")
        return 1
    CLIPS.mkdir(exist_ok=True)
    for name, said in texts().items():
        pcm = speak(espeak, said["voice"], said["text"])
        path = CLIPS / f"{name}.opus"
        write_opus(path, pcm)
        sys.stdout.write(f"{name:24} {len(pcm) / RATE:5.2f} s {path.stat().st_size:7} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
