"""Speech from text by espeak-ng, where it is installed."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from relay.speech.clip import RATE, Clip, Pcm, SpeechError, decode, shape

WORDS_PER_MINUTE: Final = 165
PAUSE_MS_MAX: Final = 10_000
TIMEOUT_S: Final = 20.0
_PAUSE: Final = re.compile(r"\s*\[\[(\d{1,6})\]\]\s*")


@functools.lru_cache(maxsize=256)
def synthesise(text: str, voice: str) -> Clip:
    """A text as a clip; `[[700]]` in it is a pause of 700 ms, exact to the sample.

    Each side of a pause is shaped by itself, so that the pause lasts as long as the text says.

    Raises:
        SpeechError: espeak-ng is not installed, fails, or says nothing.

    """
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        raise SpeechError(
            f"{text!r} needs speech synthesis, and espeak-ng is not installed: `apt-get install espeak-ng`, or give a "
            "clip's name or a recording"
        )
    parts: list[Pcm] = []
    for index, piece in enumerate(_PAUSE.split(text)):
        if index % 2:
            parts.append(np.zeros(min(int(piece), PAUSE_MS_MAX) * RATE // 1000, np.int16))
        else:
            parts.append(_spoken(espeak, voice, piece))
    pcm = np.concatenate(parts)
    pcm.setflags(write=False)
    return Clip(text, voice, text, pcm)


def _spoken(espeak: str, voice: str, text: str) -> Pcm:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        # By stdin, so that no text is taken for an option.
        command = [espeak, "-v", voice, "-s", str(WORDS_PER_MINUTE), "-w", str(wav), "--stdin"]
        try:
            subprocess.run(  # noqa: S603 - no shell, and neither voice nor text can become an option
                command, input=text.encode(), check=True, capture_output=True, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SpeechError(f"espeak-ng cannot say {text!r} with the voice {voice!r}: {error}") from error
        pcm = shape(decode(wav))
    if pcm is None:
        raise SpeechError(f"espeak-ng says nothing for {text!r}; change the text")
    return pcm
