"""Utterances whose every pause and end is known to 2.5 ms, at many levels and over many noises; all from one seed.

The voices are espeak-ng's: exact and free of rights, and plainer in melody than any person. What is found with them
holds for detectors of voice; of a predictor that listens to melody it says little (`docs/turn-taking.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from relay.models import FRAME_SAMPLES
from relay.speech import Clip, load, names
from relay.speech.clip import RATE, WINDOW, voiced_edges
from relay.speech.synthesis import synthesise
from relay.transceiver.decimate import Decimator

Pcm = npt.NDArray[np.int16]

LEAD_MS: Final = 600.0
TAIL_MS: Final = 2_600.0
GAIN_DB: Final = (-12.0, 6.0)
"""About what a talker's distance and gain control leave."""
SNR_DB: Final = (15.0, 45.0)
"""From a loud office to a studio."""

VOICES: Final = ("en-us+m3", "en-us+f3", "en-gb+m1", "en-us+Andrea")

SENTENCES: Final = (
    ("I need to cancel", "my appointment tomorrow"),
    ("Could you tell me", "when the next train leaves"),
    ("I am calling because", "my card does not work any more"),
    ("My account number is four two seven", "one nine six three"),
    ("Do you have a table for", "six people tonight"),
    ("I ordered a lamp last week and", "it has not arrived"),
    ("The problem with my phone is that", "it keeps restarting"),
    ("Can I speak to someone about", "my last invoice"),
    ("What I really want to know is", "how much it costs"),
    ("I would like to fly to", "Lisbon in the second week of May"),
    ("My email address is", "anna dot berg at example dot com"),
    ("If the weather is bad", "can we move it to Friday"),
    ("I moved to a new flat", "so my address has changed"),
    ("We are four adults", "and two children"),
    ("It stopped working yesterday", "after the update"),
    ("I think it was around", "half past nine"),
)
"""Sentences with a pause where speakers make them: before the word they look for, and at clauses. Four first parts
could stand for themselves, so that no rule on words can know better."""


@dataclass(frozen=True, eq=False)
class Phrase:
    """What is said, without a level or a room.

    Attributes:
        name: of the phrase.
        pieces: 48 kHz, voiced at both ends.
        texts: the words of each.
        pauses_ms: between them; None: chosen anew each time.

    """

    name: str
    pieces: tuple[Pcm, ...]
    texts: tuple[str, ...]
    pauses_ms: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Utterance:
    """A phrase as it was said once.

    Attributes:
        name: of the phrase.
        frames: 16 kHz, shape (n, 320).
        spans_ms: begin and end of each piece.
        texts: the words up to the end of each piece, without punctuation.

    """

    name: str
    frames: Pcm
    spans_ms: tuple[tuple[float, float], ...]
    texts: tuple[str, ...]

    @property
    def end_ms(self) -> float:
        """The end of the last piece."""
        return self.spans_ms[-1][1]


@cache
def scripts() -> tuple[Phrase, ...]:
    """The callers' questions that hesitate, as the built-in scripts have them."""
    return tuple(_split(load(name)) for name in names("user_pause_"))


@cache
def joins() -> tuple[Phrase, ...]:
    """The same with other pauses, and questions after a filler."""
    hesitant = [Phrase(phrase.name, phrase.pieces, phrase.texts) for phrase in scripts()]
    questions = [load(name) for name in names("user_") if not name.startswith("user_pause_")]
    fillers = [load(name) for name in names("filler_")]
    return (
        *hesitant,
        *(
            Phrase(f"{filler.name}+{question.name}", (filler.pcm, question.pcm), (filler.text, question.text))
            for number, question in enumerate(questions)
            for filler in fillers[number % 2 : number % 2 + 1]
        ),
    )


@cache
def sentences() -> tuple[Phrase, ...]:
    """`SENTENCES`, which no rule was made by, in several voices; needs espeak-ng."""
    return tuple(
        Phrase(f"{first} | {second}", tuple(synthesise(text, voice).pcm for text in (first, second)), (first, second))
        for number, (first, second) in enumerate(SENTENCES)
        for voice in (VOICES[number % 4], VOICES[(number + 1) % 4])
    )


@cache
def whole() -> tuple[Phrase, ...]:
    """Utterances without a pause."""
    clips = [load(name) for name in names("user_") if not name.startswith("user_pause_")]
    return tuple(Phrase(clip.name, (clip.pcm,), (clip.text,)) for clip in clips)


def speak(phrases: Sequence[Phrase], count: int, seed: int, pause_ms: tuple[float, float]) -> Iterator[Utterance]:
    """Say `count` phrases, in turn, each time at another level, over another noise and on another frame grid."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        yield _say(phrases[number % len(phrases)], rng, pause_ms)


def _say(phrase: Phrase, rng: np.random.Generator, pause_ms: tuple[float, float]) -> Utterance:
    pauses = phrase.pauses_ms or tuple(rng.uniform(*pause_ms) for _ in phrase.pieces[1:])
    parts: list[Pcm] = [_silence(LEAD_MS + float(rng.uniform(0, 20)))]
    spans = []
    for piece, pause in zip(phrase.pieces, (*pauses, TAIL_MS), strict=True):
        begin = sum(map(len, parts))
        spans.append((begin * 1000 / RATE, (begin + len(piece)) * 1000 / RATE))
        parts += [piece, _silence(pause)]
    clean = np.concatenate(parts).astype(np.float64) * 10 ** (rng.uniform(*GAIN_DB) / 20)
    loud = np.sqrt(np.mean(np.square(np.concatenate(phrase.pieces).astype(np.float64)))) or 1.0
    noisy = clean + _noise(len(clean), rng) * loud * 10 ** (-rng.uniform(*SNR_DB) / 20)
    pcm = np.clip(np.rint(noisy), -32_768, 32_767).astype(np.int16)
    decimate = Decimator()
    frames = [decimate(frame) for frame in pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)]
    texts = tuple(" ".join(phrase.texts[: number + 1]).strip(" .?!,") for number in range(len(phrase.texts)))
    return Utterance(phrase.name, np.stack(frames), tuple(spans), texts)


def _noise(samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of a room: white, or falling by 3 dB an octave, of power 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    if rng.random() < 0.5:
        spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1))
    noise = np.fft.irfft(spectrum, samples)
    coloured: npt.NDArray[np.float64] = noise / np.sqrt(np.mean(np.square(noise)))
    return coloured


def _silence(ms: float) -> Pcm:
    return np.zeros(round(ms * RATE / 1000), np.int16)


def _split(clip: Clip) -> Phrase:
    """Cut a clip at its longest silence."""
    whole_windows = len(clip.pcm) // WINDOW
    voiced = [voiced_edges(clip.pcm[k * WINDOW : (k + 1) * WINDOW]) is not None for k in range(whole_windows)]
    edges = np.flatnonzero(voiced)
    longest = int(np.argmax(np.diff(edges)))
    first_end, second_begin = (int(edges[longest]) + 1) * WINDOW, int(edges[longest + 1]) * WINDOW
    first, _, second = clip.text.replace("]]", "[[").split("[[")
    pause_ms = (second_begin - first_end) * 1000 / RATE
    return Phrase(clip.name, (clip.pcm[:first_end], clip.pcm[second_begin:]), (first, second), (pause_ms,))
