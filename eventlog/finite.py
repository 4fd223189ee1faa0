"""Numbers that are none: a NaN or an infinity among facts would make every mean and percentile over them one, too."""

from __future__ import annotations

import math
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_pc: Final[Any] = pc  # the stubs want types that are known at run time only


def finite_rows(column: pa.Array[Any]) -> Any:
    """Return which rows of a column hold finite numbers only, as a boolean array; None if all do. NULL is no number."""
    kind: Any = column.type
    if pa.types.is_floating(kind):
        finite = _pc.fill_null(_pc.is_finite(column), fill_value=True)
    elif pa.types.is_map(kind) and pa.types.is_floating(kind.item_type):
        rows = ((value for _, value in row or () if value is not None) for row in column.to_pylist())
        finite = pa.array([all(map(math.isfinite, row)) for row in rows], pa.bool_())
    else:
        return None
    return None if _pc.all(finite).as_py() else finite
