"""What processes that carry voice do without: pandas, and memory that is given back only to be asked for again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

import pyarrow as pa

_TRIM_THRESHOLD: Final = -1  # of mallopt(3)
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 32 << 20  # the most that the C library takes as a threshold


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


def steady_memory() -> None:
    """Make this process keep what it frees for what it takes next, for a role's `main` to call first.

    A process that makes large arrays several times a second gives them back to the system each time, and for the next
    ones it is handed fresh pages, which have to be cleared: half of what an edge paid for writing its facts. Kept are
    at most 64 MB beyond what is in use. Has no effect with a C library that has no `mallopt`.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, 2 * _LARGE_BYTES)):
            mallopt(parameter, value)
