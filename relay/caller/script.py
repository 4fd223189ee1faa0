"""What a caller does in a call: steps, a few built-in scripts, and the reading of scripts from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

QUESTIONS: Final = "user_*"
HESITANT: Final = "user_pause_*"
INTERRUPTIONS: Final = "interrupt_*"
BACKCHANNELS: Final = "backchannel_*"


class ScriptError(Exception):
    """A script that cannot be run; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say a clip: its name, or a pattern such as `user_*` from which the call's seed chooses."""

    clip: str = QUESTIONS


@dataclass(frozen=True, slots=True)
class Pause:
    """Be silent for a time chosen evenly between two bounds, in milliseconds."""

    ms: float
    to_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WaitForAnswer:
    """Wait until the agent has answered the last utterance and finished, or until the patience is over."""

    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class BargeIn:
    """Wait for the answer and break in on it, after this much of it was heard (ms, evenly between two bounds)."""

    after_ms: float = 800.0
    to_ms: float | None = None
    clip: str = INTERRUPTIONS
    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class Backchannel:
    """Wait for the answer and encourage the agent, after this much of it was heard (ms, evenly between two bounds)."""

    after_ms: float = 1_000.0
    to_ms: float | None = None
    clip: str = BACKCHANNELS
    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""


Step = Say | Pause | WaitForAnswer | BargeIn | Backchannel | HangUp

_STEPS: Final[Mapping[str, type[Step]]] = {
    "say": Say,
    "pause": Pause,
    "wait_for_answer": WaitForAnswer,
    "barge_in": BargeIn,
    "backchannel": Backchannel,
    "hang_up": HangUp,
}


@dataclass(frozen=True, slots=True)
class Script:
    """A named sequence of steps.

    Attributes:
        name: for reports.
        steps: done in order.
        loop: begin again at the end, until the call's time is over.

    """

    name: str
    steps: tuple[Step, ...]
    loop: bool = True


_THINK: Final = Pause(300.0, 1_000.0)

BUILT_IN: Final[Mapping[str, Script]] = {
    script.name: script
    for script in (
        Script("simple", (Say(), WaitForAnswer(), _THINK)),
        Script("pauses", (Say(HESITANT), WaitForAnswer(), _THINK, Say(), WaitForAnswer(), _THINK)),
        Script("barge-in", (Say(), BargeIn(700.0, 1_800.0), WaitForAnswer(), _THINK)),
        Script("backchannel", (Say(), Backchannel(800.0, 2_000.0), WaitForAnswer(), _THINK)),
        Script(
            "mixed",
            (
                *(Say(), WaitForAnswer(), _THINK),
                *(Say(), Backchannel(800.0, 2_000.0), WaitForAnswer(), _THINK),
                *(Say(), BargeIn(700.0, 1_800.0), WaitForAnswer(), _THINK),
                *(Say(HESITANT), WaitForAnswer(), _THINK),
            ),
        ),
    )
}


def script_names() -> tuple[str, ...]:
    """Names of the built-in scripts, the plainest first."""
    return tuple(BUILT_IN)


def built_in(name: str) -> Script:
    """A built-in script.

    Raises:
        ScriptError: there is none of that name.

    """
    try:
        return BUILT_IN[name]
    except KeyError:
        raise ScriptError(f"no script is called {name!r}; there are {', '.join(sorted(BUILT_IN))}") from None


def parse(text: str) -> Script:
    """Read a script from TOML: `name`, `loop`, and `steps`, a list of tables with `do` and the step's own fields.

    Example:
        name = "impatient"
        steps = [{ do = "say", clip = "user_bill" }, { do = "barge_in", after_ms = 400 }, { do = "hang_up" }]

    Raises:
        ScriptError: the text is not TOML, or a step is unknown or has fields it cannot have.

    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"the script is not TOML: {error}") from error
    steps = document.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ScriptError('the script has no `steps`; give a list such as steps = [{ do = "say" }]')
    return Script(
        name=str(document.get("name", "script")),
        steps=tuple(_step(number, step) for number, step in enumerate(steps, 1)),
        loop=bool(document.get("loop", False)),
    )


def _step(number: int, given: Any) -> Step:
    if not isinstance(given, dict) or given.get("do") not in _STEPS:
        raise ScriptError(f"step {number} needs `do`, one of {', '.join(_STEPS)}; it is {given!r}")
    kind = _STEPS[given["do"]]
    known = {field.name for field in fields(kind)}
    values = {key: value for key, value in given.items() if key != "do"}
    for key, value in values.items():
        if key not in known:
            raise ScriptError(
                f"step {number} ({given['do']}) has no `{key}`; it may have {', '.join(sorted(known)) or 'nothing'}"
            )
        wanted = str if key == "clip" else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ScriptError(f"step {number} ({given['do']}): `{key}` cannot be {value!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ScriptError(f"step {number} ({given['do']}): {error}") from error
