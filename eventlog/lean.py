"""Keeping pandas out of processes that never use it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pyarrow as pa


class _Hidden:
    """Makes one module look as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG004
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def without_pandas() -> None:
    """Make pyarrow do without pandas in this process, for a role's `main` to call first.

    The first array that pyarrow makes imports pandas, if it is installed, to recognise its types: 1.6 s of CPU and
    45 MB (measured) in every edge and transceiver, which never use it. The price: in this process `to_pylist()`
    refuses times that are no whole microseconds. Has no effect if pandas is there already.
    """
    if "pandas" not in sys.modules:
        finder: Any = _Hidden
        sys.meta_path.insert(0, finder)
        try:
            pa.array([0])
        finally:
            sys.meta_path.remove(finder)
