"""Build the edge's compiled half where it lies: `python -m relay.edge.wire.build`. Without a compiler it does nothing.

C files without dependencies, so no build system: the compiler that `CC` names, or `cc`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from relay.edge.wire import CODE, HERE, library_path

FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC")


class BuildError(Exception):
    """There is a compiler, and it failed. The message is the compiler's."""


def build() -> Path | None:
    """Build the library if it is not there already; return where it lies, or None if there is no compiler for it.

    Raises:
        BuildError: the compiler failed, or the folder cannot be written.

    """
    path = library_path()
    if path.exists():
        return path
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform != "linux":
        return None
    fresh = path.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, "-o", str(fresh), *map(str, CODE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - what whoever builds calls their compiler
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr}")
    for old in HERE.glob("_wire-*.so"):
        old.unlink(missing_ok=True)
    fresh.rename(path)  # whole or not at all: several may build at once
    return path


def main() -> None:
    """Build, and say what came of it."""
    try:
        path = build()
    except BuildError as error:
        sys.exit(str(error))
    note = (
        path or "no C compiler here (cc, or what CC names): the edge goes the portable way, at less than half the speed"
    )
    sys.stdout.write(f"{note}\n")


if __name__ == "__main__":
    main()
