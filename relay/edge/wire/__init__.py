"""The edge's compiled half, built by `build` where there is a C compiler and loaded here if it is there."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from cffi import FFI

HERE: Final = Path(__file__).parent
HEADERS: Final = (HERE / "wire.h", HERE / "derive.h")
"""What Python calls; the other headers are between C files."""
CODE: Final = tuple(sorted(HERE.glob("*.c")))


class Library(NamedTuple):
    """The library and its types, or `problem`: why there is none, for people."""

    ffi: Any
    lib: Any
    problem: str | None


def library_path() -> Path:
    """Where the library of these very sources lies once it is built: another version's is never loaded."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(HERE.glob("*.[ch]"))))
    return HERE / f"_wire-{digest.hexdigest()[:16]}.so"


@cache
def load() -> Library:
    """Load the library if it was built."""
    path = library_path()
    if not path.exists():
        return Library(None, None, "not built; where there is a C compiler: python -m relay.edge.wire.build")
    ffi = FFI()
    for header in HEADERS:
        ffi.cdef(re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL))
    try:
        lib = ffi.dlopen(str(path))
    except OSError as error:  # built for another machine
        return Library(None, None, f"{path.name} cannot be loaded: {error}")
    return Library(ffi, lib, None)
