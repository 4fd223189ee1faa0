"""What a caller may say, ready to send, and the seeded choice among several clips."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from relay.caller.phrases import Phrase, phrase
from relay.caller.script import HESITANT, QUESTIONS, Piece, Recording, Script, ScriptError, Silence, Speech, Text
from relay.speech import Clip, SpeechError, load, load_wav, names, synthesise
from relay.speech.clip import MAX_SECONDS, RATE


class Phrasebook:
    """The shipped clips, or recordings in place of the questions, each encoded once.

    Args:
        recordings: said wherever a script asks for a question (`user_*`); empty: the shipped questions.

    """

    def __init__(self, recordings: Sequence[Clip] = ()) -> None:
        self._recordings = tuple(phrase(clip) for clip in recordings)

    def prepare(self, script: Script) -> None:
        """Encode everything a script may say, so that nothing is encoded during the call.

        Raises:
            ScriptError: the script names clips that do not exist.
            SpeechError: a recording cannot be used, or a text not be said.

        """
        for step in script.steps:
            said = getattr(step, "say", None)
            if said is not None:
                self._candidates(said)

    def choose(self, said: Speech, rng: np.random.Generator) -> Phrase:
        """The phrase for something to say; among several clips the generator decides.

        Raises:
            ScriptError: no clip fits.
            SpeechError: a recording cannot be used, or a text not be said.

        """
        candidates = self._candidates(said)
        return candidates[int(rng.integers(len(candidates)))]

    def _candidates(self, said: Speech) -> tuple[Phrase, ...]:
        if not isinstance(said, str):
            return (_composed(said if isinstance(said, tuple) else (said,)),)
        if self._recordings and said in (QUESTIONS, HESITANT):
            return self._recordings
        # Hesitant questions provoke errors on purpose: a script gets them only if it asks for them.
        found = [
            name
            for name in names()
            if fnmatchcase(name, said) and (said != QUESTIONS or not fnmatchcase(name, HESITANT))
        ]
        if not found:
            raise ScriptError(f"no clip fits {said!r}; there are {', '.join(names())}")
        return tuple(_shipped(name) for name in found)


@functools.cache
def _shipped(name: str) -> Phrase:
    return phrase(load(name))


@functools.lru_cache(maxsize=256)
def _composed(pieces: tuple[Piece, ...]) -> Phrase:
    """Several pieces as one phrase, the pauses between them exact to the sample."""
    clips = [_clip(piece) for piece in pieces]
    pcm = np.concatenate([clip.pcm for clip in clips])
    if len(pcm) > _SAMPLES_MAX:
        raise SpeechError(f"an utterance of {len(pcm) / RATE:.0f} s is longer than {MAX_SECONDS} s; say it in parts")
    return phrase(Clip(" ".join(clip.name for clip in clips), "", "", pcm))


def _clip(piece: Piece) -> Clip:
    match piece:
        case Text():
            return synthesise(piece.text, piece.voice)
        case Recording():
            return load_wav(piece.path)
        case Silence():
            return Clip(f"[[{piece.ms:g}]]", "", "", np.zeros(round(piece.ms * RATE / 1000), np.int16))
    return load(piece)


_SAMPLES_MAX: Final = MAX_SECONDS * RATE
