"""Scripts from YAML: read node by node, so that every complaint names its line. Only plain values are made.

A step is a name (`hang_up`), a name with its main value (`say: user_hours`, `pause: [300, 1000]`), or a name with named
values (`barge_in: {after_ms: 1200, say: interrupt_hold}`). `docs/callers.md` is the guide.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from relay.behaviours import LIMITS, MS_MAX
from relay.caller import script as steps
from relay.caller.script import Expected, Piece, Recording, Script, ScriptError, Silence, Speech, Step, Text
from relay.speech import names
from voice.errors import TURN_ERRORS
from voice.netem import PROFILES

BYTES_MAX: Final = 65_536
STEPS_MAX: Final = 500
PIECES_MAX: Final = 32
TEXT_CHARS_MAX: Final = 500
TITLE_CHARS_MAX: Final = 120
SEED_MAX: Final = 2**32 - 1

_TAG: Final = "tag:yaml.org,2002:"
_VOICE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_-")


def read(path: Path) -> Script:
    """Read a script's file; its name is the file's.

    Raises:
        ScriptError: the file cannot be read, or is no script; the message names the line.

    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"cannot read a script from {path}: {error}; give a YAML file in UTF-8") from error
    return parse(text, name=path.stem, where=str(path), folder=path.parent)


def parse(text: str, *, name: str = "script", where: str = "script", folder: Path = Path()) -> Script:
    """Read a script from YAML.

    Args:
        text: the YAML, at most `BYTES_MAX` characters.
        name: of the script.
        where: how complaints call the text.
        folder: that the paths of recordings are relative to.

    Raises:
        ScriptError: it is no script; the message names the line and what may stand there.

    """
    if len(text) > BYTES_MAX:
        raise ScriptError(f"{where} is longer than {BYTES_MAX} characters; a script has at most {STEPS_MAX} steps")
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ScriptError(f"{where}{line}: this is not YAML: {error.problem}") from error
    except (YAMLError, RecursionError, ValueError) as error:
        raise ScriptError(f"{where}: this is not YAML that can be read: {str(error).partition(chr(10))[0]}") from error
    return _Reader(where, folder).script(name, root)


class _Reader:
    """Turns nodes into values; knows how to complain."""

    def __init__(self, where: str, folder: Path) -> None:
        self._where = where
        self._folder = folder

    def script(self, name: str, root: Node | None) -> Script:
        if root is None:
            raise ScriptError(f"{self._where} is empty; a script has at least `steps`, a list such as [say, hang_up]")
        given = self._mapping(root, "a script", ("title", "steps", "loop", "expect", "agent", "seed"))
        if "steps" not in given:
            raise self._wrong(root, "the script has no `steps`; give a list such as [say, wait_for_answer, hang_up]")
        todo = tuple(self._step(node) for node in self._items(given["steps"], "steps", STEPS_MAX))
        if not todo:
            raise self._wrong(given["steps"], "`steps` is empty; a script does something")
        loop = self._flag(given["loop"], "loop") if "loop" in given else False
        expect = tuple(self._expected(node) for node in self._items(given.get("expect"), "expect", STEPS_MAX))
        if loop and expect:
            raise self._wrong(given["expect"], "a script that loops says how often nothing; `expect` needs loop: false")
        agent = {} if "agent" not in given else self._agent(given["agent"])
        title = self._text(given["title"], "title", TITLE_CHARS_MAX) if "title" in given else ""
        seed = int(self._number(given["seed"], "seed", SEED_MAX)) if "seed" in given else None
        return Script(name, todo, loop, title, expect, agent, seed)

    def _step(self, node: Node) -> Step:
        if isinstance(node, MappingNode):
            self._plain(node)
            if len(node.value) != 1:
                raise self._wrong(node, "a step is one name with its values; begin each step with `- `")
            key, value = node.value[0]
            name = self._text(key, "a step's name", TITLE_CHARS_MAX)
        else:
            name, value = self._text(node, "a step", TITLE_CHARS_MAX), None
        if name not in _STEPS:
            raise self._wrong(node, f"there is no step {name!r}; there are {', '.join(_STEPS)}")
        kind, main, fields = _STEPS[name]
        values: dict[str, Any] = {}
        # What is said may be a mapping of its own ({text: …}); everything else in braces is named values.
        if isinstance(value, MappingNode) and not (main == "say" and self._keys(value) <= _SPEECH):
            for key, inner in self._mapping(value, name, fields).items():
                values |= self._field(key, inner)
        elif value is not None and not self._null(value):
            if main is None:
                raise self._wrong(value, f"{name} takes no value")
            values = self._field(main, value)
        if main in _REQUIRED.get(name, ()) and main not in values:
            raise self._wrong(node, f"{name} needs `{main}`")
        made: Step = kind(**values)
        return made

    def _field(self, name: str, node: Node) -> dict[str, Any]:
        if name == "say":
            return {"say": self._speech(node)}
        if name == "profile":
            profile = self._text(node, name, TITLE_CHARS_MAX)
            if profile not in PROFILES:
                raise self._wrong(node, f"there is no network {profile!r}; there are {', '.join(PROFILES)}")
            return {"profile": profile}
        if isinstance(node, SequenceNode) and name in _RANGES:
            bounds = [self._number(item, name, MS_MAX) for item in self._items(node, name, 2)]
            if len(bounds) != _BOUNDS or bounds[0] > bounds[1]:
                raise self._wrong(node, f"`{name}` has a lower and an upper bound, such as [300, 1000]")
            return {name: bounds[0], "to_ms": bounds[1]}
        return {name: self._number(node, name, MS_MAX)}

    def _speech(self, node: Node) -> Speech:
        if not isinstance(node, SequenceNode):
            piece = self._piece(node)
            if isinstance(piece, Silence):
                raise self._wrong(node, "a pause alone is no speech; use the step `pause`")
            return piece
        pieces = tuple(self._piece(item) for item in self._items(node, "say", PIECES_MAX))
        for item, piece in zip(node.value, pieces, strict=True):
            if isinstance(piece, str) and "*" in piece:
                raise self._wrong(item, "parts of one utterance are named, not chosen: give one clip's name")
        if not pieces or isinstance(pieces[0], Silence) or isinstance(pieces[-1], Silence):
            raise self._wrong(node, "an utterance begins and ends with speech")
        return pieces

    def _piece(self, node: Node) -> Piece:
        if not isinstance(node, MappingNode):
            return self._clip(node)
        given = self._mapping(node, "speech", tuple(_SPEECH))
        kinds = [name for name in ("clip", "text", "wav", "pause") if name in given]
        if len(kinds) != 1 or ("voice" in given and kinds != ["text"]):
            raise self._wrong(node, "speech is one of clip, text (with or without voice), wav or pause")
        inner = given[kinds[0]]
        if kinds == ["pause"]:
            return Silence(self._number(inner, "pause", MS_MAX))
        if kinds == ["clip"]:
            return self._clip(inner)
        said = self._text(inner, kinds[0], TEXT_CHARS_MAX)
        if kinds == ["wav"]:
            return Recording(str(self._folder / said))
        if "voice" not in given:
            return Text(said)
        voice = self._text(given["voice"], "voice", TITLE_CHARS_MAX)
        if not set(voice) <= _VOICE or voice.startswith("-"):
            raise self._wrong(given["voice"], f"{voice!r} is no voice of espeak-ng's; `espeak-ng --voices` lists them")
        return Text(said, voice)

    def _clip(self, node: Node) -> str:
        said = self._text(node, "a clip", TEXT_CHARS_MAX)
        if not any(fnmatchcase(name, said) for name in names()):
            raise self._wrong(node, f"no clip fits {said!r}; there are {', '.join(names())}")
        return said

    def _expected(self, node: Node) -> Expected:
        given = self._mapping(node, "expect", ("turn", "error"))
        if len(given) != len(Expected.__slots__):
            raise self._wrong(node, "an expectation has `turn` and `error`")
        turn = self._number(given["turn"], "turn", 2 * STEPS_MAX)
        if turn < 1 or turn != int(turn):
            raise self._wrong(given["turn"], "`turn` counts the caller's utterances, from 1")
        error = self._text(given["error"], "error", TITLE_CHARS_MAX)
        if error not in TURN_ERRORS:
            raise self._wrong(given["error"], f"there is no error {error!r}; there are {', '.join(TURN_ERRORS)}")
        return Expected(int(turn), error)

    def _agent(self, node: Node) -> dict[str, float]:
        given = self._mapping(node, "agent", tuple(LIMITS))
        return {name: self._number(value, name, LIMITS[name]) for name, value in given.items()}

    def _mapping(self, node: Node, what: str, known: tuple[str, ...]) -> dict[str, Node]:
        self._plain(node)
        if not isinstance(node, MappingNode):
            raise self._wrong(node, f"{what} is a mapping; it may have {', '.join(known)}")
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else "?"
            if name not in known:
                raise self._wrong(key, f"{what} has no `{name}`; it may have {', '.join(known) or 'nothing'}")
            if name in found:
                raise self._wrong(key, f"`{name}` is given twice")
            found[name] = value
        return found

    def _keys(self, node: MappingNode) -> set[str]:
        return {key.value for key, _ in node.value if isinstance(key, ScalarNode)}

    def _items(self, node: Node | None, what: str, most: int) -> list[Node]:
        if node is None:
            return []
        self._plain(node)
        if not isinstance(node, SequenceNode):
            raise self._wrong(node, f"`{what}` is a list")
        if len(node.value) > most:
            raise self._wrong(node, f"`{what}` has {len(node.value)} entries; at most {most} are taken")
        return list(node.value)

    def _scalar(self, node: Node, tags: tuple[str, ...], what: str, wanted: str) -> str:
        self._plain(node)
        if not isinstance(node, ScalarNode) or str(node.tag).removeprefix(_TAG) not in tags:
            raise self._wrong(node, f"`{what}` must be {wanted}")
        return str(node.value)

    def _text(self, node: Node, what: str, most: int) -> str:
        said = self._scalar(node, ("str",), what, "a text").strip()
        if not 0 < len(said) <= most:
            raise self._wrong(node, f"`{what}` must have 1 to {most} characters")
        return said

    def _number(self, node: Node, what: str, most: float) -> float:
        text = self._scalar(node, ("int", "float"), what, "a number")
        try:
            value = float(text.replace("_", ""))
        except ValueError:  # octal, sexagesimal: nobody means them here
            raise self._wrong(node, f"`{what}` must be a number such as 500 or 0.5") from None
        if not 0 <= value <= most:
            raise self._wrong(node, f"`{what}` must lie within 0 … {most:g}")
        return value

    def _flag(self, node: Node, what: str) -> bool:
        return self._scalar(node, ("bool",), what, "true or false").lower() == "true"

    def _null(self, node: Node) -> bool:
        return isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"

    def _plain(self, node: Node) -> None:
        # An alias is the same node again: small texts could stand for endless ones.
        if node.anchor is not None:
            raise self._wrong(node, f"anchors (&{node.anchor}) are not taken; write it out")

    def _wrong(self, node: Node, problem: str) -> ScriptError:
        return ScriptError(f"{self._where}:{node.start_mark.line + 1}: {problem}")


_BOUNDS: Final = 2
_SPEECH: Final = frozenset({"clip", "text", "voice", "wav", "pause"})
_RANGES: Final = frozenset({"ms", "after_ms"})
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {"pause": ("ms",), "network": ("profile",)}
_INTO: Final = ("after_ms", "say", "timeout_ms")
_STEPS: Final[Mapping[str, tuple[Callable[..., Step], str | None, tuple[str, ...]]]] = {
    "say": (steps.Say, "say", ("say",)),
    "hesitate": (steps.Hesitate, "ms", ("ms", "say")),
    "pause": (steps.Pause, "ms", ("ms",)),
    "wait_for_answer": (steps.WaitForAnswer, "timeout_ms", ("timeout_ms",)),
    "barge_in": (steps.BargeIn, "after_ms", _INTO),
    "backchannel": (steps.Backchannel, "after_ms", _INTO),
    "talk_over": (steps.TalkOver, "after_ms", (*_INTO, "for_ms")),
    "network": (steps.Network, "profile", ("profile", "at_ms")),
    "hang_up": (steps.HangUp, None, ()),
}
"""Step → its class, the value it takes without a name, and the values it takes by name."""
