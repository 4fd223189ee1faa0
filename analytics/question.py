"""A question: one `.sql` file whose header comment says what it asks, takes and gives.

Header lines, before the first line of SQL:

    -- title: Turns, latency and loss by region
    -- Any other comment line is part of the description.
    -- param from DateTime64(9, 'UTC') = now-1h : start of the window, inclusive
    -- column p50_ms ms : median response latency; NULL where no turn has one

A parameter without `=` must be given. `-- include: parts/turns.sql` in the SQL stands for that file's text: a common
table expression that several questions share. It is the only substitution; values are always bound by the store.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from analytics.answer import Column
from analytics.errors import UnknownQuestionError

_HEADER = re.compile(r"^--\s?(?P<text>.*)$")
_TITLE = re.compile(r"^title:\s*(?P<title>.+)$")
_PARAM = re.compile(
    r"^param\s+(?P<name>\w+)\s+(?P<type>[^=:]+?)(?:\s*=\s*(?P<default>.*?))?\s+:\s+(?P<description>.+)$"
)
_COLUMN = re.compile(r"^column\s+(?P<name>\w+)\s+(?P<unit>.+?)\s+:\s+(?P<description>.+)$")
_INCLUDE = re.compile(r"^\s*-- include: (?P<path>[\w/]+\.sql)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a question.

    Attributes:
        name: as in `{name:Type}`.
        type: ClickHouse type.
        default: what a person would write; None if it must be given.
        description: what it selects.

    """

    name: str
    type: str
    default: str | None
    description: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question: SQL with bound parameters, and the words around it."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    sql: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the SQL as values that `json.dumps` takes."""
        words = asdict(self)
        del words["sql"]
        return words


def parse(name: str, text: str, root: Traversable) -> Question:
    """Read one question from its file's text.

    Args:
        name: the question's name.
        text: header and SQL.
        root: folder that includes are relative to.

    Raises:
        ValueError: the header or an include is wrong (a fault of the installation, not of the person asking).

    """
    lines = text.splitlines()
    size = next((index for index, line in enumerate(lines) if not _HEADER.match(line)), len(lines))
    title = ""
    description: list[str] = []
    params: list[Parameter] = []
    columns: list[Column] = []
    for line in lines[:size]:
        header = _HEADER.match(line)
        said = header["text"].strip() if header else ""
        if match := _TITLE.match(said):
            title = match["title"]
        elif match := _PARAM.match(said):
            params.append(Parameter(match["name"], match["type"], match["default"], match["description"]))
        elif match := _COLUMN.match(said):
            columns.append(Column(match["name"], match["unit"], match["description"]))
        elif re.match(r"^(param|column)\b", said):
            raise ValueError(f"{name}.sql: cannot read the header line {line!r}")
        elif said:
            description.append(said)
    if not title or not columns:
        raise ValueError(f"{name}.sql: the header needs a `title:` and at least one `column`")
    sql = _INCLUDE.sub(lambda match: _part(root, match["path"]), "\n".join(lines[size:])).strip()
    return Question(name, title, " ".join(description), tuple(params), tuple(columns), sql)


def _part(root: Traversable, path: str) -> str:
    part = root.joinpath(*path.split("/"))
    if not part.is_file():
        raise ValueError(f"queries/{path} is included but does not exist")
    text = part.read_text(encoding="utf-8").rstrip()
    return _INCLUDE.sub(lambda match: _part(root, match["path"]), text)


@cache
def _by_name() -> dict[str, Question]:
    root = files("analytics") / "queries"
    found = sorted((entry for entry in root.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return {
        name: parse(name, entry.read_text(encoding="utf-8"), root)
        for entry in found
        for name in [entry.name.removesuffix(".sql")]
    }


def questions() -> tuple[Question, ...]:
    """Return all questions, by name in alphabetical order."""
    return tuple(_by_name().values())


def question(name: str) -> Question:
    """Return one question.

    Raises:
        UnknownQuestionError: there is none of that name.

    """
    known = _by_name()
    if name not in known:
        raise UnknownQuestionError(f"there is no question {name!r}; ask one of: {', '.join(known)}")
    return known[name]
