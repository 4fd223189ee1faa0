"""What each metric means: name, definition, unit, source, version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A changed definition is a new version, so that numbers of both can stand side by side."""

    name: str
    definition: str
    unit: str
    source: str
    version: int = 1


CATALOGUE: Final[dict[str, Metric]] = {}
