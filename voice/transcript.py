"""What the words so far say of a turn: whether it is over, and whether they claim the floor. English only.

No grammar and no model: a sentence that ends in a word that must be followed by another ("I would like to") is not
over, one that ends in punctuation that a recogniser sets at a sentence's end is. Punctuation is a recogniser's opinion
of the same prosody that a listener hears, and last words are strong evidence where it sets none.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from voice.endpointing import Heard


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD: Final = re.compile(r"[a-z0-9']+")

OPEN_WORDS: Final = _words(
    """a an the my your his her its our their this these those some any every each no
    and or but so because since although though while if unless until when where which who whose that than as
    to of in on at by for from with without into onto about between through during before after under over near
    is are was were am be been being do does did has have had will would shall should can could may might must
    i'm i've i'd i'll you're we're they're it's that's there's i you he she we they
    not very really just even also like please want need um uh er hmm well mean wanna gonna
    let's how what why whether number numbers"""
)
"""Words that an English sentence hardly ends in: determiners, conjunctions, prepositions, auxiliaries, pronouns as
subjects, fillers. `that`, `so`, `on`, `in`, `please` … may end one; with no punctuation they are taken for open."""

DIGITS: Final = _words("zero oh one two three four five six seven eight nine double triple")
"""Numbers are dictated in groups with pauses between; the end of a group is not the end of the number."""

WHOLE_NUMBER: Final = 7
"""Digits from which a dictated number may be over: the shortest subscriber number of the North American plan."""

BACKCHANNELS: Final = _words(
    "yeah yes yep yup okay ok right sure mm hm mhm mmhm hmm uh huh uhuh ah oh i see great good alright exactly cool "
    "got it true wow really nice"
)


class TranscriptPredictor:
    """Judges by the punctuation and the last words of what a listening model has understood so far.

    Args:
        threshold: probability from which the turn counts as over.

    """

    name = "transcript:en:1"
    wants: Literal["text"] = "text"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def predict(self, heard: Heard) -> float | None:
        """Return the probability that the turn is over; None without words."""
        text = (heard.text or "").strip().lower()
        words = _WORD.findall(text)
        if not words:
            return None
        if text.endswith((",", "-", "\u2013", "\u2014", ":", ";", "...", "\u2026")):
            return 0.05
        if _dictating(words):
            return 0.1
        if words[-1] in OPEN_WORDS:
            # With a full stop it may be an odd sentence; a recogniser also sets one after any pause.
            return 0.3 if text.endswith((".", "?", "!")) else 0.05
        return 0.95 if text.endswith((".", "?", "!")) else 0.7


def claims_floor(text: str) -> bool:
    """Whether words spoken over somebody want the floor: more than one, or one that does not only encourage."""
    words = _WORD.findall(text.lower())
    return any(word not in BACKCHANNELS for word in words)


def _dictating(words: list[str]) -> bool:
    digits = 0
    for word in reversed(words):
        if word not in DIGITS and not word.isdigit():
            break
        digits += len(word) if word.isdigit() else 1
    return 0 < digits < WHOLE_NUMBER and (digits > 1 or "number" in words)
