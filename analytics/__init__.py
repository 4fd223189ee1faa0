"""Facts answer: questions about calls, asked of the store in SQL and answered with units.

The way of an answer: a `.sql` file in `queries/` says the question, its parameters and its columns; `question` reads
the file, `parameters` turns what a person wrote into what the store binds, `store` runs it and `answer` holds the
rows. `catalogue` says what each metric means and `api` serves it all as JSON.
"""

from analytics.answer import Answer, Column
from analytics.catalogue import CATALOGUE, Metric
from analytics.errors import BadParameterError, QuestionError, StoreUnavailableError, UnknownQuestionError, reason
from analytics.pool import Pool
from analytics.question import Parameter, Question, questions
from analytics.store import check, connect, run
from voice.errors import TURN_ERRORS as ERROR_KINDS

__all__ = [
    "CATALOGUE",
    "ERROR_KINDS",
    "Answer",
    "BadParameterError",
    "Column",
    "Metric",
    "Parameter",
    "Pool",
    "Question",
    "QuestionError",
    "StoreUnavailableError",
    "UnknownQuestionError",
    "check",
    "connect",
    "questions",
    "reason",
    "run",
]
