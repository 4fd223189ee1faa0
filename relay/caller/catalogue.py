"""The scripts that come with the product: `scripts/*.yaml`, by name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from relay.caller.script import Script, ScriptError
from relay.caller.script_file import read

SCRIPTS: Final = Path(__file__).parent / "scripts"

EVERYDAY: Final = ("simple", "pauses", "barge-in", "backchannel", "mixed")
"""Ordinary calls, which loop and ask nothing of the agent; a fleet without a script of its own does these."""


@functools.cache
def script_names() -> tuple[str, ...]:
    """Names of the shipped scripts: the everyday ones, then the others in alphabetical order."""
    return (*EVERYDAY, *sorted(path.stem for path in SCRIPTS.glob("*.yaml") if path.stem not in EVERYDAY))


@functools.cache
def built_in(name: str) -> Script:
    """A shipped script.

    Raises:
        ScriptError: there is none of that name.

    """
    if name not in script_names():
        raise ScriptError(f"no script is called {name!r}; there are {', '.join(script_names())}")
    return read(SCRIPTS / f"{name}.yaml")


def find(name: str) -> Script:
    """A shipped script by its name, or one's own by the path of its YAML file.

    Raises:
        ScriptError: there is none, or it is no script.

    """
    if name.endswith((".yaml", ".yml")):
        return read(Path(name))
    return built_in(name)
