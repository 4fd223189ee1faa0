"""Settings of turn-taking."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, get_args

Endpointing = Literal["silence", "predictor", "model"]
"""Who ends a turn: a silence, a silence as long as a predictor advises, or the model that listens."""

ENDPOINTINGS: Final = frozenset(get_args(Endpointing))


@dataclass(frozen=True, slots=True)
class Control:
    """What of turn-taking is the machine's, and not the application's; by the names of OpenAI's Realtime API.

    Attributes:
        turn_detection: whether what is heard ends turns and interrupts the agent; without it, nothing else is the
            machine's, either.
        create_response: whether the end of a turn asks for an answer.
        interrupt_response: whether the user's speech makes the agent pause, and calls off an answer that is not heard.

    """

    turn_detection: bool = True
    create_response: bool = True
    interrupt_response: bool = True

    @property
    def answers(self) -> bool:
        """Whether the machine asks for answers."""
        return self.turn_detection and self.create_response

    @property
    def interrupts(self) -> bool:
        """Whether the user's speech interrupts."""
        return self.turn_detection and self.interrupt_response

    def inputs(self) -> dict[str, bool]:
        """What is the application's, as JSON values."""
        found = {
            "turn_detection": self.turn_detection,
            "create_response": self.answers,
            "interrupt_response": self.interrupts,
        }
        return {name: value for name, value in found.items() if not value}


@dataclass(frozen=True, slots=True)
class FloorConfig:
    """Settings, in ms. They travel in the `inputs` of the events that they decide.

    Silences are counted from the acoustic end of speech.

    Attributes:
        frame_ms: length of a user frame.
        min_speech_ms: shortest run of speech frames that is an onset.
        pause_ms: silence that ends a talkspurt (the inter-pausal unit: shorter silences are part of speech).
        endpointing: who ends a turn.
        endpoint_silence_ms: silence that ends the turn where nothing else is known.
        likely_silence_ms: silence that ends it if a predictor is sure enough that it is over.
        unlikely_silence_ms: silence that ends it if a predictor thinks that the user will go on, or if the model that
            is to end it says nothing.
        threshold: probability from which a predictor is sure enough.
        predict_ms: silence at which a predictor is asked.
        speculate_ms: silence at which an answer is asked for in advance; None: never.
        barge_in_ms: speech over the agent that makes it pause; less is a backchannel.
        backchannel_ms: speech over the agent that takes the floor for good; after less, the agent goes on. 0: whatever
            makes the agent pause takes the floor.
        resume_ms: silence after which a paused agent goes on although nothing has ended the user's turn.
        detector_hangover_ms: what the detector adds to the end of speech (`Vad.hangover_ms`).

    """

    frame_ms: float = 20.0
    min_speech_ms: float = 60.0
    pause_ms: float = 200.0
    endpointing: Endpointing = "silence"
    endpoint_silence_ms: float = 500.0
    likely_silence_ms: float = 200.0
    unlikely_silence_ms: float = 1_500.0
    threshold: float = 0.5
    predict_ms: float = 100.0
    speculate_ms: float | None = None
    barge_in_ms: float = 200.0
    backchannel_ms: float = 1_000.0
    resume_ms: float = 2_000.0
    detector_hangover_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.endpointing not in ENDPOINTINGS:
            raise ValueError(f"endpointing is one of {', '.join(sorted(ENDPOINTINGS))}, not {self.endpointing!r}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is a probability, not {self.threshold}")
        for name in (field.name for field in fields(self) if field.name.endswith("_ms")):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is a duration, not {value}")
        if not self.frame_ms:
            raise ValueError("frame_ms must be positive")
        shortest = ("endpoint_silence_ms", "likely_silence_ms")[: 2 if self.endpointing == "predictor" else 1]
        for name in shortest:
            if self.pause_ms > getattr(self, name):
                raise ValueError(
                    f"pause_ms {self.pause_ms} is longer than {name} {getattr(self, name)}: "
                    "a turn cannot end before its last talkspurt"
                )
