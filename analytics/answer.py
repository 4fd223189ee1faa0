"""An answer: rows with the name, unit and meaning of each column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer.

    Attributes:
        name: as in the SQL; carries the unit where there is one (`_ns`, `_ms`).
        unit: `ns since epoch`, `ms`, `ratio`, `count`, `text`, …
        description: what the number is and when it is NULL.

    """

    name: str
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        name: the question's.
        title: the question in words.
        columns: what the values of each row are, in order.
        rows: one tuple per row; None where a value is unknown.
        params: parameters as they were bound, defaults included.

    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    params: Mapping[str, Any]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries by column name."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def column(self, name: str) -> list[Any]:
        """Return one column's values.

        Raises:
            KeyError: there is no such column.

        """
        for index, column in enumerate(self.columns):
            if column.name == name:
                return [row[index] for row in self.rows]
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as values that `json.dumps` takes; times stay integers, unknown is null."""
        return {
            "name": self.name,
            "title": self.title,
            "params": {name: plain(value) for name, value in self.params.items()},
            "columns": [
                {"name": column.name, "unit": column.unit, "description": column.description} for column in self.columns
            ],
            "rows": [[plain(value) for value in row] for row in self.rows],
        }


def plain(value: Any) -> Any:
    """Return a value of JSON's types; NaN and infinities, which JSON has no word for, become None."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
