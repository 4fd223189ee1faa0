"""Facts in a list instead of a log."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from eventlog.columns import check_names
from eventlog.schema import FactType


class FactList:
    """Takes rows as the emitter does, with its check of the columns' names."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, fact: FactType, /, *, session_id: bytes, region: str, observed_ns: int, **columns: object) -> None:
        row = {"session_id": session_id, "region": region, "observed_ns": observed_ns, **columns}
        check_names(fact, list(row))
        self.rows[fact.name].append(row)
