"""What the floor machine says: facts about the conversation, and what it asks the transceiver to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Actor = Literal["user", "agent", "system"]
StopReason = Literal["completed", "yielded", "hangup", "error"]


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One thing that happened; maps one to one onto the `turn` fact.

    Attributes:
        kind: one of the fact's kinds (`user_speech_started` …).
        actor: whose doing it was.
        turn_id: see `voice.floor`.
        at_ns: when it happened, which may be before it was known.
        audio_ms: position on the actor's media clock, if it has one.
        reason: why, for kinds that have a reason.
        detector: the detector that the decision rests on.
        probability: the predictor's, for kinds that have one.
        threshold: what it was compared with.
        silence_ms: silence since the acoustic end of the user's speech.
        inputs: what else went into the decision: measurements and settings, JSON values.

    """

    kind: str
    actor: Actor
    turn_id: int
    at_ns: int
    audio_ms: float | None = None
    reason: str | None = None
    detector: str | None = None
    probability: float | None = None
    threshold: float | None = None
    silence_ms: float | None = None
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictEnd:
    """Ask a predictor whether the turn is over, and hand its answer to `Floor.predicted`.

    Attributes:
        question: goes into the answer.

    """

    question: int


@dataclass(frozen=True, slots=True)
class RequestResponse:
    """Ask the model to answer this turn.

    Attributes:
        turn_id: the turn.
        speculative: the turn is only likely to be over: keep the answer back until `ReleaseResponse`.

    """

    turn_id: int
    speculative: bool = False


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """The turn is over; whether it is answered is the application's business."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """The turn is over: let the answer that was asked for in advance be heard."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class PauseAgent:
    """Stop the answer to this turn for now and keep the rest.

    Report `agent_stopped(…, "yielded")` when the last packet has left, or `"completed"` if there is no rest.
    """

    turn_id: int


@dataclass(frozen=True, slots=True)
class ResumeAgent:
    """Go on with the paused answer to this turn; report `agent_started` when its next voiced packet leaves."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class StopAgent:
    """Give up the answer to this turn: drop its audio, cancel its generation. There is nothing to report.

    Attributes:
        turn_id: the turn whose answer it is.
        reason: `yielded` (the user took the floor from the paused agent) or `revoked` (the user went on before the
            answer was heard).

    """

    turn_id: int
    reason: Literal["yielded", "revoked"]


FloorOutput = (
    TurnEvent | PredictEnd | RequestResponse | CommitTurn | ReleaseResponse | PauseAgent | ResumeAgent | StopAgent
)
