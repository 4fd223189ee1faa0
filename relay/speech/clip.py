"""Clips: 48 kHz mono speech whose first and last samples are voiced, all at one level."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

RATE: Final = 48_000
"""Hz; Opus' RTP clock (RFC 7587 §4.1), so one sample is one RTP tick."""

SPEECH_DBOV: Final = -23.0
"""Level of the voiced part of every clip: about where a headset with gain control puts a talker."""

EDGE_DBOV: Final = -40.0
"""A window louder than this is voiced: 17 dB under the speech itself, 10 dB over a quiet room."""

WINDOW: Final = 120
"""Samples (2.5 ms) over which energy is taken; the precision of a clip's edges."""

MAX_SECONDS: Final = 120
"""Longest recording taken, so that a wrong file cannot fill the memory."""

_FULL_SCALE: Final = 32_768.0
CLIPS: Final = Path(__file__).parent / "clips"
"""Where the shipped clips are."""

TEXTS: Final = Path(__file__).parent / "clips.toml"

Pcm = NDArray[np.int16]


class SpeechError(Exception):
    """A clip or recording that cannot be used; the message says which, why and what to do."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One utterance.

    Attributes:
        name: unique name; its prefix tells its use (`user_`, `agent_`, …).
        voice: espeak-ng voice, or the path of the recording.
        text: what is said; empty for recordings.
        pcm: int16, shape (samples,), 48 kHz mono, read-only; voiced at both ends (see `EDGE_DBOV`).

    """

    name: str
    voice: str
    text: str
    pcm: Pcm

    @property
    def duration_ms(self) -> float:
        """Length in milliseconds."""
        return len(self.pcm) * 1000 / RATE


def names(prefix: str = "") -> list[str]:
    """Names of the shipped clips that start with `prefix`, sorted."""
    return sorted(name for name in texts() if name.startswith(prefix))


@functools.cache
def load(name: str) -> Clip:
    """A shipped clip by name; decoded once per process.

    Raises:
        SpeechError: there is no such clip, or its file is damaged.

    """
    said = texts().get(name)
    if said is None:
        raise SpeechError(f"no clip is called {name!r}; there are {', '.join(names())}")
    return _clip(name, said["voice"], said["text"], CLIPS / f"{name}.opus")


def load_wav(path: Path | str) -> Clip:
    """A recording as a clip: any container, rate and channel count that FFmpeg reads, mixed down to 48 kHz mono.

    The recording is trimmed to its voiced part and levelled like every other clip.

    Raises:
        SpeechError: the file is missing, unreadable, silent, or longer than `MAX_SECONDS`.

    """
    path = Path(path)
    return _clip(path.stem, str(path), "", path)


def voiced_edges(pcm: Pcm, threshold_dbov: float = EDGE_DBOV) -> tuple[int, int] | None:
    """First voiced sample and the one after the last voiced, in samples; None if no window exceeds the threshold."""
    whole = len(pcm) // WINDOW * WINDOW
    power = np.square(pcm[:whole].astype(np.float64).reshape(-1, WINDOW)).mean(axis=1)
    loud = np.flatnonzero(power > np.square(_FULL_SCALE * 10 ** (threshold_dbov / 20)))
    if not len(loud):
        return None
    return int(loud[0]) * WINDOW, (int(loud[-1]) + 1) * WINDOW


def level(pcm: Pcm) -> Pcm | None:
    """The same speech with its voiced windows at `SPEECH_DBOV`; None if it is silent."""
    whole = len(pcm) // WINDOW * WINDOW
    if not whole:
        return None
    power = np.square(pcm[:whole].astype(np.float64).reshape(-1, WINDOW)).mean(axis=1)
    peak = float(power.max())
    if peak < 1.0:
        return None
    # Pauses must not count: average over windows within 30 dB of the loudest, much as ITU-T P.56's active level.
    active = float(power[power > peak / 1000].mean())
    gain = _FULL_SCALE * 10 ** (SPEECH_DBOV / 20) / np.sqrt(active)
    scaled: Pcm = np.clip(np.rint(pcm * gain), -32_768, 32_767).astype(np.int16)
    return scaled


def shape(pcm: Pcm) -> Pcm | None:
    """Level, then trim to the voiced part; None if there is none."""
    levelled = level(pcm)
    edges = None if levelled is None else voiced_edges(levelled)
    if levelled is None or edges is None:
        return None
    return levelled[edges[0] : edges[1]]


def decode(path: Path) -> Pcm:
    """Samples of an audio file, int16 of shape (n,), 48 kHz mono.

    Raises:
        SpeechError: the file is missing, holds no audio FFmpeg can read, or is longer than `MAX_SECONDS`.

    """
    parts: list[Pcm] = []
    samples = 0
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in (*container.decode(audio=0), None):
                for out in resampler.resample(frame):
                    parts.append(out.to_ndarray().reshape(-1).astype(np.int16))
                    samples += out.samples
                if samples > MAX_SECONDS * RATE:
                    raise SpeechError(f"{path} is longer than {MAX_SECONDS} s; cut it into single utterances")
    except (av.FFmpegError, IndexError, OSError) as error:
        raise SpeechError(f"cannot read speech from {path}: {error}; give a WAV, FLAC, Ogg or MP3 file") from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def _clip(name: str, voice: str, text: str, path: Path) -> Clip:
    pcm = shape(decode(path))
    if pcm is None:
        raise SpeechError(f"{path} is silent; record it louder or give another file")
    pcm.setflags(write=False)
    return Clip(name, voice, text, pcm)


@functools.cache
def texts() -> dict[str, dict[str, str]]:
    """What is said by whom: clip name → `voice` and `text`."""
    return tomllib.loads(TEXTS.read_text(encoding="utf-8"))
