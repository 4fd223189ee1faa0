"""What can go wrong with a question, in words for the person who asked."""

from __future__ import annotations


class QuestionError(Exception):
    """A question could not be answered; the message says what is wrong and what to do."""


class UnknownQuestionError(QuestionError):
    """There is no question of that name."""


class BadParameterError(QuestionError):
    """A parameter is unknown, missing or not of its type."""


class StoreUnavailableError(QuestionError):
    """The store cannot be reached, or it refused."""
