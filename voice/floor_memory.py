"""What the floor machine remembers of a call, and the facts that it makes of it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from voice.endpointing import Endpointer
from voice.floor_config import Control, FloorConfig
from voice.floor_table import State
from voice.speech import SpeechTrack
from voice.turns import FloorOutput, TurnEvent

MS: Final = 1_000_000


class Moment(NamedTuple):
    """When something became known, with what came with it."""

    now_ns: int
    audio_ms: float | None = None
    reason: str | None = None


class FloorMemory:
    """The machine's state and its ways to say things; `Floor` has the rules."""

    def __init__(self, config: FloorConfig | None = None, detector_name: str = "unknown") -> None:
        self.config = config or FloorConfig()
        self.control = Control()
        """What is left to the application; may change at any time."""
        self.state = State.LISTENING
        self._detector = detector_name
        self._user = SpeechTrack(
            self.config.frame_ms, self.config.min_speech_ms, self.config.pause_ms, self.config.detector_hangover_ms
        )
        self.endpointer = Endpointer(self.config)
        self._answered = 0  # the last turn that was answered or given up
        self._open = False  # the user has spoken in the turn after that
        self._speech_turn = 1  # turn of the current talkspurt
        self._agent_turn = 0
        self._requested = False  # a response is due
        self._asked_by: str | None = None  # who asked for the last one, if not the machine
        self._revoked = False  # the last one requested was called off
        self._speculated = False  # one was asked for in advance during this silence
        self._claimed = False  # what the user says over the agent takes the floor, however short
        self._over_ms = 0.0  # how long the user has spoken over the agent, since that was told to pause
        self._said_over: list[TurnEvent] = []  # the same, each talkspurt as the backchannel that it may turn out to be
        self._resumed_by: dict[str, Any] = {}  # what the decision to go on rested on
        self._resume_reason = ""
        self._decided_ns = 0
        self._overlap_ns = 0  # since when both are heard
        self._overlap_from_ms = 0.0  # the talkspurt's speech before that
        self._speech_probability: float | None = None  # the detector's, of the last frame
        self._now_ns = 0
        self._frame_ns = 0

    @property
    def turn_id(self) -> int:
        """The turn that the user is in."""
        return self._answered + 1

    def _end_speech(self, moment: Moment) -> list[FloorOutput]:
        return [
            self._by_user(
                "user_speech_stopped",
                self._user.end_ns,
                self._user.end_audio_ms,
                reason=moment.reason,
                silence_ms=self._user.silence_ms,
                speech_ms=self._user.speech_ms,
                pause_ms=self.config.pause_ms,
                detector_hangover_ms=self.config.detector_hangover_ms,
            )
        ]

    def _said_backchannel(self) -> TurnEvent:
        return self._by_user(
            "backchannel",
            self._user.onset_ns,
            self._user.onset_audio_ms,
            speech_ms=self._user.speech_ms,
            duration_ms=self._user.duration_ms,
            barge_in_ms=self.config.barge_in_ms,
            backchannel_ms=self.config.backchannel_ms,
        )

    def _over_agent(self) -> dict[str, Any]:
        """What tells a turn from a backchannel while the agent has paused."""
        return {
            "spoken_ms": self._over_ms,
            "backchannel_ms": self.config.backchannel_ms,
            "resume_ms": self.config.resume_ms,
            "claimed": self._claimed,
        }

    def _detected(self) -> dict[str, float]:
        """What the detector made of the last frame, and whether that counts."""
        probability = self._speech_probability
        found = {} if probability is None else {"speech_probability": round(probability, 3)}
        return {**found, "overruled": True} if self._user.overruled else found

    def _endpoint(
        self, kind: str, moment: Moment, silence_ms: float, *, reason: str | None = None, **inputs: Any
    ) -> TurnEvent:
        probability = self.endpointer.probability
        return TurnEvent(
            kind,
            "system",
            self.turn_id,
            moment.now_ns,
            reason=reason,
            detector=self._detector,
            probability=probability,
            threshold=None if probability is None else self.config.threshold,
            silence_ms=silence_ms,
            inputs={**self.endpointer.inputs(), **self._detected(), **self.control.inputs(), **inputs},
        )

    def _by_user(
        self,
        kind: str,
        at_ns: int,
        audio_ms: float,
        *,
        reason: str | None = None,
        silence_ms: float | None = None,
        **inputs: Any,
    ) -> TurnEvent:
        return TurnEvent(
            kind,
            "user",
            self._speech_turn,
            at_ns,
            audio_ms=audio_ms,
            reason=reason,
            detector=self._detector,
            silence_ms=silence_ms,
            inputs={**inputs, **self._detected(), **self.control.inputs()},
        )

    def _by_agent(self, kind: str, moment: Moment, **inputs: Any) -> TurnEvent:
        return TurnEvent(kind, "agent", self._agent_turn, moment.now_ns, moment.audio_ms, moment.reason, inputs=inputs)
