"""Whose turn it is: frames and times in, facts and actions out.

The machine is `floor_table.TABLE`; the handlers here say what each row means. It decides nothing about quality: an
answer that came too early is a barge-in here, and analytics judges it later, with hindsight.

Turn numbers. A turn is what the user says until it is answered, and the answer. User events carry the turn that the
user is in, which is one more than the last turn that was answered, so a user speaking over the answer to turn n speaks
in turn n+1, also if that turns out to be a backchannel and the next real turn is n+1 again. Agent events carry the turn
they answer; what the agent says unasked carries the last answered turn, 0 at the call's start. An answer that starts
while a turn is open answers it. A response that fails unheard closes its turn. Per actor, numbers never fall.

Times. `now_ns` is when something is known, `at_ns` of an event when it happened. Neither goes back: an earlier time
than before is read as the same time. Per actor, `at_ns` never falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

from voice.floor_table import AUDIBLE, TABLE, Event, State
from voice.speech import SpeechTrack
from voice.turns import FloorOutput, RequestResponse, StopAgent, StopReason, TurnEvent

__all__ = ["Floor", "FloorConfig", "FloorOutput", "RequestResponse", "State", "StopAgent", "TurnEvent"]

_MS: Final = 1_000_000

ModelKind = Literal["response_requested", "model_first_token", "model_first_audio", "tool_started", "tool_ended"]
_MODEL_KINDS: Final = frozenset(get_args(ModelKind))
_STOP_REASONS: Final = frozenset(get_args(StopReason))


@dataclass(frozen=True, slots=True)
class FloorConfig:
    """Settings, in ms. They travel in the `inputs` of the events that they decide.

    Attributes:
        frame_ms: length of a user frame.
        min_speech_ms: shortest run of speech frames that is an onset.
        pause_ms: silence that ends a talkspurt (the inter-pausal unit: shorter silences are part of speech).
        endpoint_silence_ms: silence since the acoustic end that ends the turn.
        barge_in_ms: speech over the agent that takes the floor; less is a backchannel.
        detector_hangover_ms: what the detector adds to the end of speech (`Vad.hangover_ms`).

    """

    frame_ms: float = 20.0
    min_speech_ms: float = 60.0
    pause_ms: float = 200.0
    endpoint_silence_ms: float = 500.0
    barge_in_ms: float = 200.0
    detector_hangover_ms: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                raise ValueError(f"{name} is a duration, not {value}")
        if not self.frame_ms:
            raise ValueError("frame_ms must be positive")
        if self.pause_ms > self.endpoint_silence_ms:
            raise ValueError(
                f"pause_ms {self.pause_ms} is longer than endpoint_silence_ms {self.endpoint_silence_ms}: "
                "a turn cannot end before its last talkspurt"
            )


class _Moment(NamedTuple):
    now_ns: int
    audio_ms: float | None = None
    reason: str | None = None


class Floor:
    """The turn-taking machine of one call.

    Args:
        config: settings.
        detector_name: the detector behind `user_frame`'s `speech`, as facts name it.

    """

    def __init__(self, config: FloorConfig | None = None, detector_name: str = "unknown") -> None:
        self.config = config or FloorConfig()
        self.state = State.LISTENING
        self._detector = detector_name
        self._user = SpeechTrack(
            self.config.frame_ms, self.config.min_speech_ms, self.config.pause_ms, self.config.detector_hangover_ms
        )
        self._answered = 0  # the last turn that was answered or given up
        self._open = False  # the user has spoken in the turn after that
        self._speech_turn = 1  # turn of the current talkspurt
        self._agent_turn = 0
        self._requested = False  # a response is due
        self._revoked = False  # the last one requested was called off
        self._decided_ns = 0
        self._overlap_ns = 0  # since when both are heard
        self._overlap_from_ms = 0.0  # the talkspurt's speech before that
        self._now_ns = 0
        self._frame_ns = 0

    @property
    def turn_id(self) -> int:
        """The turn that the user is in."""
        return self._answered + 1

    def user_frame(self, now_ns: int, at_ns: int, audio_ms: float, speech: bool) -> list[FloorOutput]:
        """Take one frame of the user's voice; call it for every tick, speech or not.

        Args:
            now_ns: the present.
            at_ns: when the frame begins, on the same clock.
            audio_ms: where it begins on the user's media clock.
            speech: the detector's verdict.

        """
        if self.state is State.CLOSED:
            return []
        moment = self._moment(now_ns)
        self._frame_ns = max(self._frame_ns, at_ns)
        boundary = self._user.frame(self._frame_ns, audio_ms, speech=speech)
        out: list[FloorOutput] = []
        if boundary == "onset":
            out += self._on(Event.USER_ONSET, moment)
        elif boundary == "pause":
            out += self._on(Event.USER_PAUSE, moment)
        if self._user.in_speech:
            if self._user.speech_ms - self._overlap_from_ms >= self.config.barge_in_ms:
                out += self._on(Event.BARGE_IN_DUE, moment)
        elif self._user.silence_ms >= self.config.endpoint_silence_ms:
            out += self._on(Event.ENDPOINT_DUE, moment)
        return out

    def model_event(self, now_ns: int, kind: ModelKind) -> list[FloorOutput]:
        """Report a step of the model's work on the last requested response; it changes nobody's turn.

        A step of a response that has been revoked says so in its reason.

        Raises:
            ValueError: no such kind.

        """
        if kind not in _MODEL_KINDS:
            raise ValueError(f"{kind!r} is no step of a model; there are {', '.join(sorted(_MODEL_KINDS))}")
        if self.state is State.CLOSED:
            return []
        moment = self._moment(now_ns)
        return [TurnEvent(kind, "agent", self._agent_turn, moment.now_ns, reason="revoked" if self._revoked else None)]

    def agent_started(self, now_ns: int, audio_ms: float) -> list[FloorOutput]:
        """Report that the first voiced packet of the agent leaves, `audio_ms` on the agent's media clock."""
        return self._on(Event.AGENT_STARTED, self._moment(now_ns, audio_ms))

    def agent_stopped(self, now_ns: int, audio_ms: float, reason: StopReason) -> list[FloorOutput]:
        """Report that the agent's last packet has left; or, with nothing heard yet, that there will be no answer.

        Raises:
            ValueError: no such reason.

        """
        if reason not in _STOP_REASONS:
            raise ValueError(f"{reason!r} is no reason to stop; there are {', '.join(sorted(_STOP_REASONS))}")
        moment = self._moment(now_ns, audio_ms, reason)
        if self.state in AUDIBLE:
            return self._on(Event.AGENT_STOPPED, moment)
        # A late word about a response that was revoked must not close the turn that is being answered anew.
        return self._on(Event.RESPONSE_FAILED, moment) if reason in ("completed", "error") else []

    def hangup(self, now_ns: int) -> list[FloorOutput]:
        """End the call: what is open is closed; nothing happens after it."""
        return self._on(Event.HANGUP, self._moment(now_ns, None, "hangup"))

    def _moment(self, now_ns: int, audio_ms: float | None = None, reason: str | None = None) -> _Moment:
        self._now_ns = max(self._now_ns, now_ns)
        return _Moment(self._now_ns, audio_ms, reason)

    def _on(self, event: Event, moment: _Moment) -> list[FloorOutput]:
        transition = TABLE.get((self.state, event))
        if transition is None:
            return []
        handler: Callable[[_Moment], list[FloorOutput]] = getattr(self, f"_{transition.handler}")
        out = handler(moment)
        self.state = transition.state
        return out

    # Handlers, one for each name in the table. `self.state` is still the old state.

    def _begin_turn(self, moment: _Moment) -> list[FloorOutput]:
        self._open = True
        return self._begin_speech(moment)

    def _begin_speech(self, _moment: _Moment) -> list[FloorOutput]:
        self._speech_turn = self.turn_id
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

    def _end_speech(self, moment: _Moment) -> list[FloorOutput]:
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

    def _pause_turn(self, moment: _Moment) -> list[FloorOutput]:
        return [*self._end_speech(moment), self._endpoint("endpoint_candidate", moment, self._user.silence_ms)]

    def _decide(self, moment: _Moment) -> list[FloorOutput]:
        self._requested, self._revoked = True, False
        self._agent_turn = self.turn_id
        self._decided_ns = moment.now_ns
        return [self._endpoint("endpoint_decided", moment, self._user.silence_ms), RequestResponse(self.turn_id)]

    def _revoke(self, moment: _Moment) -> list[FloorOutput]:
        self._requested, self._revoked = False, True
        since_ms = (moment.now_ns - self._decided_ns) / _MS
        return [
            self._endpoint("endpoint_revoked", moment, self._user.gap_ms, since_decided_ms=since_ms),
            StopAgent(self.turn_id, "revoked"),
            *self._begin_turn(moment),
        ]

    def _give_up(self, _moment: _Moment) -> list[FloorOutput]:
        self._requested = False
        self._answered += 1
        self._open = False
        return []

    def _start_agent(self, moment: _Moment) -> list[FloorOutput]:
        unasked = not self._requested
        if self._open:
            self._answered += 1
            self._open = False
        self._requested = self._revoked = False
        self._agent_turn = self._answered
        self._overlap_ns = moment.now_ns
        self._overlap_from_ms = self._user.speech_ms
        return [self._by_agent("agent_audio_started", moment, over_user=self._user.in_speech, unasked=unasked)]

    def _stop_agent(self, moment: _Moment) -> list[FloorOutput]:
        return [self._by_agent("agent_audio_stopped", moment, over_user=self._user.in_speech)]

    def _leave_floor(self, moment: _Moment) -> list[FloorOutput]:
        """The agent stops by itself while the user speaks: what the user says from here on is a turn."""
        self._take_turn()
        return self._stop_agent(moment)

    def _barge_in(self, moment: _Moment) -> list[FloorOutput]:
        self._take_turn()
        barge_in_ms, speech_ms = self.config.barge_in_ms, self._user.speech_ms - self._overlap_from_ms
        audio_ms = self._user.onset_audio_ms + (self._overlap_ns - self._user.onset_ns) / _MS
        return [
            self._by_user("user_barged_in", self._overlap_ns, audio_ms, barge_in_ms=barge_in_ms, speech_ms=speech_ms),
            self._by_agent("agent_yielded", moment, barge_in_ms=barge_in_ms, speech_ms=speech_ms),
            StopAgent(self._agent_turn, "yielded"),
        ]

    def _backchannel(self, moment: _Moment) -> list[FloorOutput]:
        return [
            self._by_user(
                "backchannel",
                self._user.onset_ns,
                self._user.onset_audio_ms,
                speech_ms=self._user.speech_ms,
                duration_ms=self._user.duration_ms,
                barge_in_ms=self.config.barge_in_ms,
            ),
            *self._end_speech(moment),
        ]

    def _hang_up(self, moment: _Moment) -> list[FloorOutput]:
        out: list[FloorOutput] = []
        if self._user.in_speech:
            out += self._end_speech(moment)
        if self.state in AUDIBLE:
            out += self._stop_agent(moment)
        return out

    def _take_turn(self) -> None:
        self._open = True
        self._speech_turn = self.turn_id

    def _endpoint(self, kind: str, moment: _Moment, silence_ms: float, **inputs: Any) -> TurnEvent:
        return TurnEvent(
            kind,
            "system",
            self.turn_id,
            moment.now_ns,
            detector=self._detector,
            silence_ms=silence_ms,
            inputs={"endpoint_silence_ms": self.config.endpoint_silence_ms, **inputs},
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
            inputs=inputs,
        )

    def _by_agent(self, kind: str, moment: _Moment, **inputs: Any) -> TurnEvent:
        return TurnEvent(kind, "agent", self._agent_turn, moment.now_ns, moment.audio_ms, moment.reason, inputs=inputs)
