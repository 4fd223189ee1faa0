"""What the transceiver asks of a voice model, and nothing more.

A model hears the user in 20 ms frames and answers a turn as an asynchronous stream. It owns no socket of a call, keeps
no time and takes no turn: the floor machine decides when it is asked and when it must stop. What else it knows (the
user's words, its own idea of a turn's end, events for the client) it tells its listener.

Audio is mono, signed 16 bit, 48 kHz everywhere; a chunk of an answer may have any length.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

SAMPLE_RATE: Final = 48_000
"""Samples per second of all audio that crosses this protocol; also the RTP clock of Opus (RFC 7587, section 4.1)."""

FRAME_MS: Final = 20
FRAME_SAMPLES: Final = SAMPLE_RATE * FRAME_MS // 1000

Pcm = npt.NDArray[np.int16]
"""Mono PCM, shape `(samples,)`."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The model began to answer but has no audio yet (text, or an audio token not yet decoded)."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Some of the answer's audio. The first one of a turn is the fact `model_first_audio`."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class Transcript:
    """Some of the answer's words, in order with its audio; kept only of calls that consented."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The answer needs a tool, which somebody is now working with; the fact `tool_started`."""

    name: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """The tool has answered; the fact `tool_ended`."""

    name: str


ModelOutput = FirstToken | Audio | Transcript | ToolStarted | ToolEnded

Event = Mapping[str, Any]
"""An event of OpenAI's Realtime API, as its data channel `oai-events` carries it: a JSON object with a `type`."""


class ModelError(Exception):
    """The model cannot answer this turn. The message says what is wrong and what to do; the call goes on."""


class ModelListener(Protocol):
    """Who is told what a model knows beside its answers. Called from the event loop; nothing here blocks or raises."""

    def user_partial(self, text: str, *, final: bool, answered: bool = False) -> None:
        """Take the words of the user's current turn so far; `final` ones do not change any more.

        `answered` words come late: they are of a turn that the model has been asked to answer.
        """

    def user_turn_ended(self, reason: str) -> None:
        """Learn that the model holds the user's turn to be over; `reason` is its detector, such as `server_vad`."""

    def speak(self, reason: str = "model") -> bool:
        """Learn that the model has something to say though no turn has ended, such as a greeting.

        `reason` is who wants it: the model itself, or the `application`.
        Returns whether it is asked to `respond`: now, or once an earlier answer that is complete has been said, unless
        that is `interrupted`; not while the user has the floor, or another answer is being made.
        """

    def note(self, what: str, **details: object) -> None:
        """Write down something of the model's that a conversation is not understood without, such as `reconnected`."""

    def client_event(self, event: Event) -> None:
        """Send this to the client on its channel `oai-events`."""


class VoiceModel(Protocol):
    """One conversation partner of one call. All methods are called from the transceiver's event loop."""

    @property
    def name(self) -> str:
        """Name for the `model` attribute of the session, such as `scripted`."""

    @property
    def own_events(self) -> tuple[str, ...]:
        """How the types of those events begin that the model itself tells the client; the platform tells the others."""

    def attach(self, listener: ModelListener) -> None:
        """Take who is to be told things; called once, before anything else."""

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        """Take the user's next 20 ms, `FRAME_SAMPLES` long; `speech` is the detector's verdict. Must not block."""

    def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        """Answer the turn that has just ended: yield tokens and audio, as fast as the model makes them; then end.

        The transceiver paces the audio and stops reading when enough is buffered. When the user takes the floor it
        cancels the task that iterates, so that `GeneratorExit` or `CancelledError` is raised at a `yield` or `await`.

        Raises:
            ModelError: no answer, or no more of it.

        """

    def committed(self, turn_id: int) -> None:
        """Tell that the user's turn is over, while only the application asks for answers. Must not block."""

    def interrupted(self, turn_id: int, heard_ms: float) -> None:
        """Tell that the answer was cut off after `heard_ms` of its audio had left. Must not block."""

    def client_event(self, event: Event) -> None:
        """Take an event that the client sent on its channel `oai-events`. Must not block."""

    async def aclose(self) -> None:
        """Release what the model holds; the call is over."""


class Model:
    """What a model need not say: derive from it and write `name` and `respond`."""

    own_events: tuple[str, ...] = ()
    listener: ModelListener

    def attach(self, listener: ModelListener) -> None:
        """Keep the listener."""
        self.listener = listener

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        """Listen to nothing."""

    def committed(self, turn_id: int) -> None:
        """Make nothing of it until an answer is asked for."""

    def interrupted(self, turn_id: int, heard_ms: float) -> None:
        """Remember nothing of what was cut off."""

    def client_event(self, event: Event) -> None:
        """Do without the client's events."""

    async def aclose(self) -> None:
        """Hold nothing."""
