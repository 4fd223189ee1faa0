"""Scripts of callers, which people write and pass on: only `ScriptError`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay import caller
from relay.caller.script import ScriptError
from relay.caller.script_file import parse

MODULES: Final[tuple[str, ...]] = ("relay.caller.script_file", "relay.caller.script")

_LIBRARY: Final = Path(caller.__file__).with_name("scripts")


def seeds() -> Mapping[str, bytes]:
    """The library's."""
    return {path.stem: path.read_bytes() for path in sorted(_LIBRARY.glob("*.yaml"))}


def run(data: bytes) -> None:
    """Read it."""
    try:
        script = parse(data.decode("utf-8", "replace"))
    except ScriptError:
        return
    assert script.steps
