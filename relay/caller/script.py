"""What a caller does in a call: the steps of a script, and what its agent is asked to do wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

QUESTIONS: Final = "user_*"
HESITANT: Final = "user_pause_*"
INTERRUPTIONS: Final = "interrupt_*"
BACKCHANNELS: Final = "backchannel_*"
FILLERS: Final = "filler_*"


class ScriptError(Exception):
    """A script that cannot be run; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Text:
    """Words for the speech synthesiser; `[[700]]` in them is a pause of 700 ms.

    Attributes:
        text: what is said.
        voice: espeak-ng's name of the voice.

    """

    text: str
    voice: str = "en-us+f3"


@dataclass(frozen=True, slots=True)
class Recording:
    """A file with speech, as `relay.speech.load_wav` takes it."""

    path: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A pause within one utterance, in ms."""

    ms: float


Piece = str | Text | Recording | Silence
"""A part of an utterance; a plain string is a clip's name."""

Speech = str | Text | Recording | tuple[Piece, ...]
"""What is said at once. A plain string names a clip, or is a pattern from which the call's seed chooses."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say something that wants an answer."""

    say: Speech = QUESTIONS


@dataclass(frozen=True, slots=True)
class Hesitate:
    """Say a filler and fall silent for a time (ms, evenly between two bounds): more is to come."""

    ms: float = 600.0
    to_ms: float | None = None
    say: Speech = FILLERS


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
    say: Speech = INTERRUPTIONS
    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class Backchannel:
    """Wait for the answer and encourage the agent, after this much of it was heard (ms, evenly between two bounds)."""

    after_ms: float = 1_000.0
    to_ms: float | None = None
    say: Speech = BACKCHANNELS
    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class TalkOver:
    """Wait for the answer, break in on it after this much was heard (ms) and go on talking for at least `for_ms`."""

    after_ms: float = 300.0
    to_ms: float | None = None
    for_ms: float = 2_500.0
    say: Speech = INTERRUPTIONS
    timeout_ms: float = 8_000.0


@dataclass(frozen=True, slots=True)
class Network:
    """Move to another network (`voice.netem.PROFILES`): now, or `at_ms` after the call was connected."""

    profile: str
    at_ms: float | None = None


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""


Step = Say | Hesitate | Pause | WaitForAnswer | BargeIn | Backchannel | TalkOver | Network | HangUp


@dataclass(frozen=True, slots=True)
class Expected:
    """A turn-taking error that the script provokes on purpose.

    Attributes:
        turn: number of the caller's utterance, from 1, at or after which it happens.
        error: one of `voice.errors.TURN_ERRORS`.

    """

    turn: int
    error: str


@dataclass(frozen=True, slots=True)
class Script:
    """A named sequence of steps.

    Attributes:
        name: for reports.
        steps: done in order.
        loop: begin again at the end, until the call's time is over.
        title: in a line, what it is for.
        expect: the errors it provokes; empty for a script that should provoke none.
        agent: how the agent is asked to behave (`relay.transceiver.behaviour`), where its server lets callers ask.
        seed: fixes the script's own choices whatever the call's seed.

    """

    name: str
    steps: tuple[Step, ...]
    loop: bool = True
    title: str = ""
    expect: tuple[Expected, ...] = ()
    agent: dict[str, float] = field(default_factory=dict, hash=False)
    seed: int | None = None
