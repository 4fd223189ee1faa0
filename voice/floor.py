"""Whose turn it is: frames and times in, facts and actions out.

The machine is `floor_table.TABLE`; the handlers here say what each row means. It decides nothing about quality: an
answer that came too early is a barge-in here, and analytics judges it later, with hindsight.

Turn numbers. A turn is what the user says until it is answered, and the answer. User events carry the turn that the
user is in, which is one more than the last turn that was answered, so a user speaking over the answer to turn n speaks
in turn n+1, also if that turns out to be a backchannel and the next real turn is n+1 again. Agent events carry the turn
they answer; what the agent says unasked carries the last answered turn, 0 at the call's start. An answer that starts
while a turn is open answers it. A response that fails unheard closes its turn. Per actor, numbers never fall.

Times. `now_ns` is when something is known, `at_ns` of an event when it happened. Neither goes back: an earlier time
than before is read as the same time. Per actor, `at_ns` never falls, but for a backchannel: it is known for one when it
is over, and dates from its onset.

Barging in. An agent that is interrupted pauses and keeps the rest of its answer. What then takes the floor for good is
a turn of at least `backchannel_ms`, or words that say so; after anything else the agent goes on where it stopped. Who
was speaking when the agent began has the floor anyway.

The application. What `control` leaves to it, the machine does not do: end turns, ask for answers, pause the agent. A
turn that is over (`commit`) stays open until the application has it answered (`ask`); who speaks over an agent that is
not to be interrupted speaks in the next turn, which can end once the agent has.

Speculation. At a likely end an answer may be asked for in advance; it is heard only once the turn has been decided to
be over, and given up if the user goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, get_args

from voice.endpointing import Prediction
from voice.floor_config import Control, FloorConfig
from voice.floor_memory import MS, FloorMemory, Moment
from voice.floor_table import AUDIBLE, TABLE, Event, State
from voice.turns import (
    CommitTurn,
    FloorOutput,
    PauseAgent,
    PredictEnd,
    ReleaseResponse,
    RequestResponse,
    ResumeAgent,
    StopAgent,
    StopReason,
    TurnEvent,
)

__all__ = ["SPECULATE_MS", "Control", "Floor", "FloorConfig", "ModelKind", "State"]

SPECULATE_MS: Final = 200.0
"""Silence at which an answer is asked for in advance, where one is: as soon as a talkspurt is over."""

ModelKind = Literal["response_requested", "model_first_token", "model_first_audio", "tool_started", "tool_ended"]
_MODEL_KINDS: Final = frozenset(get_args(ModelKind))
_STOP_REASONS: Final = frozenset(get_args(StopReason))
_YIELDING: Final = frozenset({State.YIELDING, State.YIELDING_QUIET})
_SPEAKING: Final = frozenset({State.USER_SPEAKING, State.HOLDING})
_PAUSED: Final = frozenset({State.ENDPOINTING, State.SPECULATING, State.HOLDING_QUIET})


class Floor(FloorMemory):
    """The turn-taking machine of one call.

    Args:
        config: settings.
        detector_name: the detector behind `user_frame`'s `speech`, as facts name it.

    """

    def user_frame(
        self, now_ns: int, at_ns: int, audio_ms: float, speech: bool, probability: float | None = None
    ) -> list[FloorOutput]:
        """Take one frame of the user's voice; call it for every tick, speech or not.

        Args:
            now_ns: the present.
            at_ns: when the frame begins, on the same clock.
            audio_ms: where it begins on the user's media clock.
            speech: the detector's verdict.
            probability: what that rests on, if the detector works with probabilities.

        """
        if self.state is State.CLOSED:
            return []
        self._speech_probability = probability
        moment = self._moment(now_ns)
        self._frame_ns = max(self._frame_ns, at_ns)
        boundary = self._user.frame(self._frame_ns, audio_ms, speech=speech)
        out: list[FloorOutput] = []
        if boundary == "onset":
            adds = self.state is State.RESPONDING and not self.control.interrupts
            out += self._on(Event.USER_ADDED if adds else Event.USER_ONSET, moment)
        elif boundary == "pause":
            out += self._on(Event.USER_PAUSE, moment)
        if self._user.in_speech:
            if self._user.speech_ms - self._overlap_from_ms >= self.config.barge_in_ms:
                out += self._over(moment)
        else:
            out += self._silent(moment)
        if not speech:
            return out + self._ask()
        if self._user.in_speech:
            self.endpointer.speech()  # only now: what is revoked tells of the prediction that misled
        return out

    def predicted(self, now_ns: int, prediction: Prediction) -> list[FloorOutput]:
        """Take a predictor's answer to a `PredictEnd`; one that comes too late changes nothing."""
        if self.state is State.CLOSED:
            return []
        moment = self._moment(now_ns)
        if not self.endpointer.predicted(prediction) or self.state not in _PAUSED:
            return []  # before the pause is certain, the candidate that follows will tell of it
        candidate = self._endpoint("endpoint_candidate", moment, self._user.silence_ms, reason="predicted")
        return [candidate, *self._silent(moment)]

    def turn_ended(self, now_ns: int, reason: str) -> list[FloorOutput]:
        """Learn that the model which listens holds the user's turn to be over.

        It is believed also while the detector hears speech, such as in noise, unless the user has just gone on.
        """
        if not self.endpointer.ended_by_model(reason):
            return []
        moment = self._moment(now_ns)
        believed = self.state in _SPEAKING and self._user.duration_ms >= self.config.endpoint_silence_ms
        out = self._overrule(moment) if believed else []
        return out + (self._silent(moment) if self.state in _PAUSED else [])

    def floor_claimed(self, now_ns: int) -> list[FloorOutput]:
        """Learn from the user's words that what is being said over the agent is meant to take the floor."""
        barging_in = self.state is State.BARGING_IN
        out = self._over(self._moment(now_ns, reason="words")) if barging_in else []
        self._claimed = True
        return out

    def commit(self, now_ns: int) -> list[FloorOutput]:
        """Learn that the application holds the user's turn to be over; that asks for no answer."""
        return self._on(Event.TURN_COMMITTED, self._moment(now_ns, reason="application"))

    def ask(self, now_ns: int, reason: str) -> list[FloorOutput]:
        """Ask for an answer because the application, or the model itself, wants one; nothing if somebody has the floor.

        What was said already counts as answered again. Where answers are the application's, it may also have a turn
        answered that is not over yet.
        """
        moment = self._moment(now_ns, reason=reason)
        if self.state is State.LISTENING and not self._open:
            self._agent_turn, self._asked_by, self._revoked = self._answered, reason, False
            return [RequestResponse(self._answered)]
        if self.control.answers and self.state is not State.LISTENING:
            return []
        return self._on(Event.ANSWER_ASKED, moment)

    def model_event(self, now_ns: int, kind: ModelKind) -> list[FloorOutput]:
        """Report a step of the model's work on the last requested response; it changes nobody's turn.

        A step of a response that has been revoked, or was asked for in advance, says so in its reason.

        Raises:
            ValueError: no such kind.

        """
        if kind not in _MODEL_KINDS:
            raise ValueError(f"{kind!r} is no step of a model; there are {', '.join(sorted(_MODEL_KINDS))}")
        if self.state is State.CLOSED:
            return []
        moment = self._moment(now_ns)
        reason = "revoked" if self._revoked else "speculative" if self.state is State.SPECULATING else None
        if kind == "response_requested":
            reason = reason or self._asked_by
        event = TurnEvent(kind, "agent", self._agent_turn, moment.now_ns, reason=reason)
        if kind == "response_requested" and reason == "speculative":  # a decision, which no `endpoint_decided` tells of
            silence_ms, speculate_ms = self._user.silence_ms, self.config.speculate_ms
            decided = self._endpoint(kind, moment, silence_ms, reason=reason, speculate_ms=speculate_ms)
            event = replace(decided, actor="agent", turn_id=self._agent_turn)
        return [event]

    def agent_started(self, now_ns: int, audio_ms: float) -> list[FloorOutput]:
        """Report that the first voiced packet of an answer, or of the rest of one, leaves.

        `audio_ms` is on the agent's media clock.
        """
        return self._on(Event.AGENT_STARTED, self._moment(now_ns, audio_ms))

    def agent_stopped(self, now_ns: int, audio_ms: float, reason: StopReason) -> list[FloorOutput]:
        """Report that the agent's last packet has left; or, with nothing heard of it yet, that there will be no answer.

        An agent that was told to pause reports `yielded` if it keeps a rest, anything else if there is none.

        Raises:
            ValueError: no such reason.

        """
        if reason not in _STOP_REASONS:
            raise ValueError(f"{reason!r} is no reason to stop; there are {', '.join(sorted(_STOP_REASONS))}")
        moment = self._moment(now_ns, audio_ms, reason)
        if self.state in AUDIBLE:
            paused = reason == "yielded" and self.state in _YIELDING
            return self._on(Event.AGENT_PAUSED if paused else Event.AGENT_STOPPED, moment)
        # A late word about a response that was revoked must not close the turn that is being answered anew.
        return self._on(Event.RESPONSE_FAILED, moment) if reason in ("completed", "error") else []

    def hangup(self, now_ns: int) -> list[FloorOutput]:
        """End the call: what is open is closed; nothing happens after it."""
        return self._on(Event.HANGUP, self._moment(now_ns, None, "hangup"))

    def _moment(self, now_ns: int, audio_ms: float | None = None, reason: str | None = None) -> Moment:
        self._now_ns = max(self._now_ns, now_ns)
        return Moment(self._now_ns, audio_ms, reason)

    def _over(self, moment: Moment) -> list[FloorOutput]:
        return self._on(Event.BARGE_IN_DUE if self.control.interrupts else Event.SPOKEN_OVER, moment)

    def _overrule(self, moment: Moment) -> list[FloorOutput]:
        """Hold the user for silent, whatever the detector says."""
        self._user.overrule()
        return self._on(Event.USER_PAUSE, moment)

    def _ask(self) -> list[FloorOutput]:
        """Have the predictor asked as soon as a silence is worth it, also while it may be a gap between words."""
        if self.state in _PAUSED or (self._user.in_speech and self.state in _SPEAKING):
            question = self.endpointer.question(self._user.silence_ms)
            if question is not None:
                return [PredictEnd(question)]
        return []

    def _silent(self, moment: Moment) -> list[FloorOutput]:
        """Say what a silence has become long enough for."""
        silence_ms = self._user.silence_ms
        due = self.control.turn_detection and silence_ms >= self.endpointer.wanted_ms
        if self.state is State.HOLDING_QUIET:
            over = due and (self._claimed or self._over_ms >= self.config.backchannel_ms)
            if not over and (due or silence_ms >= self.config.resume_ms):
                return self._on(Event.FALSE_BARGE_IN, moment)
        if due and self.control.answers:
            return self._on(Event.ENDPOINT_DUE, moment)
        if not self.control.answers:
            return self._on(Event.TURN_COMMITTED, moment) if due and self.state in _PAUSED else []
        speculate_ms = self.config.speculate_ms
        if speculate_ms is None or self._speculated or self.endpointer.doubtful or silence_ms < speculate_ms:
            return []
        return self._on(Event.SPECULATION_DUE, moment)

    def _on(self, event: Event, moment: Moment) -> list[FloorOutput]:
        transition = TABLE.get((self.state, event))
        if transition is None:
            return []
        handler: Callable[[Moment], list[FloorOutput]] = getattr(self, f"_{transition.handler}")
        out = handler(moment)
        self.state = transition.state
        return out

    # Handlers, one for each name in the table. `self.state` is still the old state.

    def _begin_turn(self, moment: Moment) -> list[FloorOutput]:
        self._open = True
        return self._begin_speech(moment)

    def _begin_speech(self, _moment: Moment) -> list[FloorOutput]:
        self._speech_turn = self.turn_id
        self._speculated = False
        self._overlap_ns = self._user.onset_ns
        self._overlap_from_ms = 0.0
        return [
            self._by_user(
                "user_speech_started",
                self._user.onset_ns,
                self._user.onset_audio_ms,
                min_speech_ms=self.config.min_speech_ms,
            )
        ]

    def _pause_turn(self, moment: Moment) -> list[FloorOutput]:
        if self.state in (State.YIELDING, State.HOLDING):
            self._over_ms += max(0.0, (self._user.end_ns - self._overlap_ns) / MS)
            self._said_over.append(self._said_backchannel())
        left_to = None if self.control.answers else "application"
        candidate = self._endpoint("endpoint_candidate", moment, self._user.silence_ms, reason=left_to)
        return [*self._end_speech(moment), candidate]

    def _speculate(self, _moment: Moment) -> list[FloorOutput]:
        self._speculated, self._revoked, self._asked_by = True, False, None
        self._agent_turn = self.turn_id
        return [RequestResponse(self.turn_id, speculative=True)]

    def _forget_speculation(self, _moment: Moment) -> list[FloorOutput]:
        return []

    def _confirm(self, moment: Moment) -> list[FloorOutput]:
        self._requested = True
        self._decided_ns = moment.now_ns
        decided = self._endpoint("endpoint_decided", moment, self._user.silence_ms, speculative=True)
        return [decided, ReleaseResponse(self.turn_id)]

    def _decide(self, moment: Moment, **inputs: Any) -> list[FloorOutput]:
        decided = self._endpoint("endpoint_decided", moment, self._user.silence_ms, **inputs)
        self._decided_ns = moment.now_ns
        if self._requested:  # for what was said before, and what was added does not interrupt
            return [decided]
        return [decided, self._request(None)]

    def _request(self, asked_by: str | None) -> RequestResponse:
        self._requested, self._revoked, self._asked_by = True, False, asked_by
        self._agent_turn = self.turn_id
        return RequestResponse(self.turn_id)

    def _commit(self, moment: Moment) -> list[FloorOutput]:
        out: list[FloorOutput] = []
        if self.state is State.SPECULATING:
            self._revoked = True
            out = [StopAgent(self.turn_id, "revoked")]
        elif self.state in (State.HOLDING, State.HOLDING_QUIET):
            out = [StopAgent(self._agent_turn, "yielded")]
        if self._user.in_speech:
            self._user.overrule()
            out += self._end_speech(moment._replace(reason=None))
        self._open = True
        self._decided_ns = moment.now_ns
        return [*out, *self._committed(moment)]

    def _committed(self, moment: Moment) -> list[FloorOutput]:
        decided = self._endpoint("endpoint_decided", moment, self._user.silence_ms, reason=moment.reason)
        # What the application commits, it commits with the model itself.
        return [decided] if moment.reason else [decided, CommitTurn(self.turn_id)]

    def _answer(self, moment: Moment) -> list[FloorOutput]:
        """Have the turn answered as the application wants it; if it was only likely to be over, it is now."""
        over = self.state is State.ENDPOINTING and self.control.turn_detection
        if self._requested:
            return []
        decided = self._committed(moment._replace(reason=None)) if over else []
        return [*decided, self._request(moment.reason)]

    def _lose_answer(self, _moment: Moment) -> list[FloorOutput]:
        """The turn stays open: the user has said more, or the application has committed more."""
        self._requested = False
        return []

    def _take_over(self, moment: Moment) -> list[FloorOutput]:
        return [StopAgent(self._agent_turn, "yielded"), *self._decide(moment, **self._over_agent())]

    def _revoke(self, moment: Moment) -> list[FloorOutput]:
        if self.state is State.SPECULATING:
            reason, inputs = "speculative", {}
        else:
            reason, inputs = None, {"since_decided_ms": (moment.now_ns - self._decided_ns) / MS}
        self._requested, self._revoked = False, True
        return [
            self._endpoint("endpoint_revoked", moment, self._user.gap_ms, reason=reason, **inputs),
            StopAgent(self.turn_id, "revoked"),
            *self._begin_turn(moment),
        ]

    def _give_up(self, _moment: Moment) -> list[FloorOutput]:
        self._user.believe()
        self._requested = False
        self._answered += 1
        self._open = False
        return []

    def _start_agent(self, moment: Moment) -> list[FloorOutput]:
        unasked = not self._requested
        if self._open:
            self._answered += 1
            self._open = False
        self._requested = self._revoked = False
        self._agent_turn = self._answered
        self._overlap_ns = moment.now_ns
        self._overlap_from_ms = self._user.speech_ms
        return [self._by_agent("agent_audio_started", moment, over_user=self._user.in_speech, unasked=unasked)]

    def _stop_agent(self, moment: Moment) -> list[FloorOutput]:
        self._user.believe()
        return [self._by_agent("agent_audio_stopped", moment, over_user=self._user.in_speech)]

    def _leave_floor(self, moment: Moment) -> list[FloorOutput]:
        """The agent stops by itself while the user speaks: what the user says from here on is a turn."""
        self._take_turn()
        return self._stop_agent(moment)

    def _talk_on(self, moment: Moment) -> list[FloorOutput]:
        """Keep the floor that the agent took: what it said cannot have answered what was not said yet."""
        out = self._barge_in(moment)
        self._claimed = True
        return out

    def _barge_in(self, moment: Moment) -> list[FloorOutput]:
        barged_in = self._barged_in(moment.reason)
        speech_ms = self._user.speech_ms - self._overlap_from_ms
        inputs = {"barge_in_ms": self.config.barge_in_ms, "speech_ms": speech_ms, **self._detected()}
        return [barged_in, self._by_agent("agent_yielded", moment, **inputs), PauseAgent(self._agent_turn)]

    def _speak_over(self, _moment: Moment) -> list[FloorOutput]:
        return [self._barged_in("application")]

    def _barged_in(self, reason: str | None) -> TurnEvent:
        self._take_turn()
        self._claim_anew()
        speech_ms = self._user.speech_ms - self._overlap_from_ms
        audio_ms = self._user.onset_audio_ms + (self._overlap_ns - self._user.onset_ns) / MS
        inputs = {"barge_in_ms": self.config.barge_in_ms, "speech_ms": speech_ms}
        return self._by_user("user_barged_in", self._overlap_ns, audio_ms, reason=reason, **inputs)

    def _hold_again(self, moment: Moment) -> list[FloorOutput]:
        self._take_turn()
        self._claim_anew()
        return [PauseAgent(self._agent_turn), *self._begin_speech(moment)]

    def _resume(self, _moment: Moment) -> list[FloorOutput]:
        short = not self._claimed and self._over_ms < self.config.backchannel_ms
        self._resume_reason = "backchannel" if short else "no_turn"
        self._resumed_by = {**self.endpointer.inputs(), **self._over_agent(), "silence_ms": self._user.silence_ms}
        self._open = False
        return [*(self._said_over if short else []), ResumeAgent(self._agent_turn)]

    def _go_on(self, moment: Moment) -> list[FloorOutput]:
        self._overlap_ns, self._overlap_from_ms = moment.now_ns, self._user.speech_ms
        return [self._by_agent("agent_resumed", moment._replace(reason=self._resume_reason), **self._resumed_by)]

    def _give_up_rest(self, _moment: Moment) -> list[FloorOutput]:
        self._user.believe()
        return []

    def _lose_rest(self, _moment: Moment) -> list[FloorOutput]:
        """There is nothing to go on with, so whatever the user says is a turn."""
        return []

    def _backchannel(self, moment: Moment) -> list[FloorOutput]:
        return [self._said_backchannel(), *self._end_speech(moment)]

    def _hang_up(self, moment: Moment) -> list[FloorOutput]:
        out: list[FloorOutput] = []
        if self._user.in_speech:
            out += self._end_speech(moment)
        if self.state in AUDIBLE:
            out += self._stop_agent(moment)
        return out

    def _claim_anew(self) -> None:
        self._claimed, self._over_ms = False, 0.0
        self._said_over = []

    def _take_turn(self) -> None:
        self._open = True
        self._speech_turn = self.turn_id
