"""Who has the floor: the states, the events, and the table that says what follows from each pair.

What is not in the table does not happen: an event that comes in a state without a row for it is ignored. The diagram
in `docs/floor.md` is made from this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """Whose turn it is."""

    LISTENING = "listening"
    USER_SPEAKING = "user_speaking"
    ENDPOINTING = "endpointing"
    SPECULATING = "speculating"
    RESPONDING = "responding"
    AGENT_SPEAKING = "agent_speaking"
    BARGING_IN = "barging_in"
    TALKED_OVER = "talked_over"
    YIELDING = "yielding"
    YIELDING_QUIET = "yielding_quiet"
    HOLDING = "holding"
    HOLDING_QUIET = "holding_quiet"
    RESUMING = "resuming"
    OVERLAPPING = "overlapping"
    OVERLAPPING_QUIET = "overlapping_quiet"
    CLOSED = "closed"


MEANING: Final[dict[State, str]] = {
    State.LISTENING: "nobody speaks and no answer is due",
    State.USER_SPEAKING: "the user speaks",
    State.ENDPOINTING: "the user has paused; the turn may be over",
    State.SPECULATING: "the user has paused; an answer is being made in case the turn is over, and is kept back",
    State.RESPONDING: "the turn is over and an answer is requested; none of it has been heard",
    State.AGENT_SPEAKING: "the agent is heard",
    State.BARGING_IN: "the user has begun to speak while the agent is heard, not yet long enough to take the floor",
    State.TALKED_OVER: "the agent has begun to speak over the user, who has not stopped",
    State.YIELDING: "the agent was told to pause and is still heard; the user speaks",
    State.YIELDING_QUIET: "the agent was told to pause and is still heard; the user has paused",
    State.HOLDING: "the agent has paused in its answer; the user speaks",
    State.HOLDING_QUIET: "the agent has paused in its answer; the user has paused, too",
    State.RESUMING: "the agent was told to go on with its answer and is not heard yet",
    State.OVERLAPPING: "both are heard, and the application does not let the user interrupt",
    State.OVERLAPPING_QUIET: "the same; the user has paused, and the agent is still heard",
    State.CLOSED: "the call is over",
}


class Event(StrEnum):
    """What can happen, after frames have become talkspurts and times have become due."""

    USER_ONSET = "user_onset"
    USER_PAUSE = "user_pause"
    SPECULATION_DUE = "speculation_due"
    ENDPOINT_DUE = "endpoint_due"
    FALSE_BARGE_IN = "false_barge_in"
    BARGE_IN_DUE = "barge_in_due"
    USER_ADDED = "user_added"
    SPOKEN_OVER = "spoken_over"
    TURN_COMMITTED = "turn_committed"
    ANSWER_ASKED = "answer_asked"
    AGENT_STARTED = "agent_started"
    AGENT_PAUSED = "agent_paused"
    AGENT_STOPPED = "agent_stopped"
    RESPONSE_FAILED = "response_failed"
    HANGUP = "hangup"


CAUSE: Final[dict[Event, str]] = {
    Event.USER_ONSET: "speech for `min_speech_ms`",
    Event.USER_PAUSE: "silence for `pause_ms`, or the model's own word that the turn is over",
    Event.SPECULATION_DUE: "silence for `speculate_ms`, and no predictor says that the user will go on",
    Event.ENDPOINT_DUE: "silence for as long as the endpointer wants, or the model's own word",
    Event.FALSE_BARGE_IN: "the same, after a backchannel; or silence for `resume_ms`",
    Event.BARGE_IN_DUE: "speech over the agent for `barge_in_ms`",
    Event.USER_ADDED: "speech before the answer, where the application does not let the user interrupt",
    Event.SPOKEN_OVER: "speech over the agent for `barge_in_ms`, where the application does not let the user interrupt",
    Event.TURN_COMMITTED: "the application says that the turn is over, or it is and the application decides on answers",
    Event.ANSWER_ASKED: "the application, or the model, asks for an answer",
    Event.AGENT_STARTED: "the first voiced packet of the answer, or of the rest of it, leaves",
    Event.AGENT_PAUSED: "the agent's last packet before its pause has left",
    Event.AGENT_STOPPED: "the agent's last packet has left",
    Event.RESPONSE_FAILED: "the answer, or the rest of it, ended before any of it was heard",
    Event.HANGUP: "the call ends",
}


class Transition(NamedTuple):
    """A row's right side: the state that follows and the name of the handler that says what it means."""

    state: State
    handler: str


AUDIBLE: Final = frozenset(
    {
        State.AGENT_SPEAKING,
        State.BARGING_IN,
        State.TALKED_OVER,
        State.YIELDING,
        State.YIELDING_QUIET,
        State.OVERLAPPING,
        State.OVERLAPPING_QUIET,
    }
)
"""States in which the agent is heard."""

_AFTER_COMMIT: Final = {
    State.LISTENING: State.LISTENING,
    State.USER_SPEAKING: State.LISTENING,
    State.ENDPOINTING: State.LISTENING,
    State.SPECULATING: State.LISTENING,
    State.HOLDING: State.LISTENING,
    State.HOLDING_QUIET: State.LISTENING,
    State.RESPONDING: State.RESPONDING,
    State.AGENT_SPEAKING: State.AGENT_SPEAKING,
    State.BARGING_IN: State.AGENT_SPEAKING,
    State.TALKED_OVER: State.AGENT_SPEAKING,
    State.OVERLAPPING: State.OVERLAPPING_QUIET,
    State.OVERLAPPING_QUIET: State.OVERLAPPING_QUIET,
}
"""Nobody speaks for the user after that, and whoever answers has not been asked."""

TABLE: Final[dict[tuple[State, Event], Transition]] = {
    (State.LISTENING, Event.USER_ONSET): Transition(State.USER_SPEAKING, "begin_turn"),
    (State.LISTENING, Event.AGENT_STARTED): Transition(State.AGENT_SPEAKING, "start_agent"),
    (State.USER_SPEAKING, Event.USER_PAUSE): Transition(State.ENDPOINTING, "pause_turn"),
    (State.USER_SPEAKING, Event.AGENT_STARTED): Transition(State.TALKED_OVER, "start_agent"),
    (State.ENDPOINTING, Event.USER_ONSET): Transition(State.USER_SPEAKING, "begin_turn"),
    (State.ENDPOINTING, Event.SPECULATION_DUE): Transition(State.SPECULATING, "speculate"),
    (State.ENDPOINTING, Event.ENDPOINT_DUE): Transition(State.RESPONDING, "decide"),
    (State.ENDPOINTING, Event.AGENT_STARTED): Transition(State.AGENT_SPEAKING, "start_agent"),
    (State.SPECULATING, Event.USER_ONSET): Transition(State.USER_SPEAKING, "revoke"),
    (State.SPECULATING, Event.ENDPOINT_DUE): Transition(State.RESPONDING, "confirm"),
    (State.SPECULATING, Event.AGENT_STARTED): Transition(State.AGENT_SPEAKING, "start_agent"),
    (State.SPECULATING, Event.RESPONSE_FAILED): Transition(State.ENDPOINTING, "forget_speculation"),
    (State.RESPONDING, Event.USER_ONSET): Transition(State.USER_SPEAKING, "revoke"),
    (State.RESPONDING, Event.AGENT_STARTED): Transition(State.AGENT_SPEAKING, "start_agent"),
    (State.RESPONDING, Event.RESPONSE_FAILED): Transition(State.LISTENING, "give_up"),
    (State.AGENT_SPEAKING, Event.USER_ONSET): Transition(State.BARGING_IN, "begin_speech"),
    (State.AGENT_SPEAKING, Event.AGENT_STOPPED): Transition(State.LISTENING, "stop_agent"),
    (State.BARGING_IN, Event.USER_PAUSE): Transition(State.AGENT_SPEAKING, "backchannel"),
    (State.BARGING_IN, Event.BARGE_IN_DUE): Transition(State.YIELDING, "barge_in"),
    (State.BARGING_IN, Event.AGENT_STOPPED): Transition(State.USER_SPEAKING, "leave_floor"),
    (State.TALKED_OVER, Event.USER_PAUSE): Transition(State.AGENT_SPEAKING, "end_speech"),
    (State.TALKED_OVER, Event.BARGE_IN_DUE): Transition(State.YIELDING, "talk_on"),
    (State.TALKED_OVER, Event.AGENT_STOPPED): Transition(State.USER_SPEAKING, "leave_floor"),
    (State.YIELDING, Event.USER_PAUSE): Transition(State.YIELDING_QUIET, "pause_turn"),
    (State.YIELDING, Event.AGENT_PAUSED): Transition(State.HOLDING, "stop_agent"),
    (State.YIELDING, Event.AGENT_STOPPED): Transition(State.USER_SPEAKING, "stop_agent"),
    (State.YIELDING_QUIET, Event.USER_ONSET): Transition(State.YIELDING, "begin_turn"),
    (State.YIELDING_QUIET, Event.AGENT_PAUSED): Transition(State.HOLDING_QUIET, "stop_agent"),
    (State.YIELDING_QUIET, Event.AGENT_STOPPED): Transition(State.ENDPOINTING, "stop_agent"),
    (State.HOLDING, Event.USER_PAUSE): Transition(State.HOLDING_QUIET, "pause_turn"),
    (State.HOLDING, Event.RESPONSE_FAILED): Transition(State.USER_SPEAKING, "lose_rest"),
    (State.HOLDING_QUIET, Event.USER_ONSET): Transition(State.HOLDING, "begin_turn"),
    (State.HOLDING_QUIET, Event.ENDPOINT_DUE): Transition(State.RESPONDING, "take_over"),
    (State.HOLDING_QUIET, Event.FALSE_BARGE_IN): Transition(State.RESUMING, "resume"),
    (State.HOLDING_QUIET, Event.RESPONSE_FAILED): Transition(State.ENDPOINTING, "lose_rest"),
    (State.RESUMING, Event.USER_ONSET): Transition(State.HOLDING, "hold_again"),
    (State.RESUMING, Event.AGENT_STARTED): Transition(State.AGENT_SPEAKING, "go_on"),
    (State.RESUMING, Event.RESPONSE_FAILED): Transition(State.LISTENING, "give_up_rest"),
    (State.RESPONDING, Event.USER_ADDED): Transition(State.USER_SPEAKING, "begin_turn"),
    (State.BARGING_IN, Event.SPOKEN_OVER): Transition(State.OVERLAPPING, "speak_over"),
    (State.TALKED_OVER, Event.SPOKEN_OVER): Transition(State.OVERLAPPING, "speak_over"),
    (State.OVERLAPPING, Event.USER_PAUSE): Transition(State.OVERLAPPING_QUIET, "pause_turn"),
    (State.OVERLAPPING, Event.AGENT_STOPPED): Transition(State.USER_SPEAKING, "stop_agent"),
    (State.OVERLAPPING_QUIET, Event.USER_ONSET): Transition(State.OVERLAPPING, "begin_turn"),
    (State.OVERLAPPING_QUIET, Event.AGENT_STOPPED): Transition(State.ENDPOINTING, "stop_agent"),
    **{(state, Event.TURN_COMMITTED): Transition(after, "commit") for state, after in _AFTER_COMMIT.items()},
    (State.LISTENING, Event.ANSWER_ASKED): Transition(State.RESPONDING, "answer"),
    (State.USER_SPEAKING, Event.ANSWER_ASKED): Transition(State.USER_SPEAKING, "answer"),
    (State.ENDPOINTING, Event.ANSWER_ASKED): Transition(State.RESPONDING, "answer"),
    (State.SPECULATING, Event.ANSWER_ASKED): Transition(State.RESPONDING, "confirm"),
    (State.LISTENING, Event.RESPONSE_FAILED): Transition(State.LISTENING, "lose_answer"),
    (State.USER_SPEAKING, Event.RESPONSE_FAILED): Transition(State.USER_SPEAKING, "lose_answer"),
    (State.ENDPOINTING, Event.RESPONSE_FAILED): Transition(State.ENDPOINTING, "lose_answer"),
    **{(state, Event.HANGUP): Transition(State.CLOSED, "hang_up") for state in State if state is not State.CLOSED},
}
