"""What can go wrong with a question, in words for the person who asked."""

from __future__ import annotations

import re


class QuestionError(Exception):
    """A question could not be answered; the message says what is wrong and what to do."""


class UnknownQuestionError(QuestionError):
    """There is no question of that name."""


class BadParameterError(QuestionError):
    """A parameter is unknown, missing or not of its type."""


class StoreUnavailableError(QuestionError):
    """The store cannot be reached, or it refused."""


def reason(error: BaseException) -> str:
    """Return in a few words why a store did not answer, out of what its client raised."""
    text = str(error)
    if system := re.search(r"\[Errno \d+\] ([\w ]+)", text):  # what the HTTP client's wrapping says in 300 letters
        return system[1].lower()
    return (text.strip().splitlines() or [type(error).__name__])[0][:400]
