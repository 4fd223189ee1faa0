"""Which phrases a caller may say, ready to send, and the seeded choice among them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from relay.caller.phrases import Phrase, phrase
from relay.caller.script import HESITANT, QUESTIONS, Script, ScriptError
from relay.speech import Clip, load, names


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

        """
        for step in script.steps:
            clip = getattr(step, "clip", None)
            if isinstance(clip, str):
                self._candidates(clip)

    def choose(self, clip: str, rng: np.random.Generator) -> Phrase:
        """A phrase by name or pattern; among several the generator decides.

        Raises:
            ScriptError: no clip fits.

        """
        candidates = self._candidates(clip)
        return candidates[int(rng.integers(len(candidates)))]

    def _candidates(self, clip: str) -> tuple[Phrase, ...]:
        if self._recordings and clip in (QUESTIONS, HESITANT):
            return self._recordings
        # Hesitant questions provoke errors on purpose: a script gets them only if it asks for them.
        found = [
            name
            for name in names()
            if fnmatchcase(name, clip) and (clip != QUESTIONS or not fnmatchcase(name, HESITANT))
        ]
        if not found:
            raise ScriptError(f"no clip fits {clip!r}; there are {', '.join(names())}")
        return tuple(_shipped(name) for name in found)


@functools.cache
def _shipped(name: str) -> Phrase:
    return phrase(load(name))
