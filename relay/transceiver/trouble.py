"""Notices that a turn may be going wrong while it does, so that the edge keeps the packets around it in full.

It errs on the side of keeping: what was a bad turn is decided later, from all facts. Pure: time is an argument.
"""

from __future__ import annotations

from typing import Final

from voice.turns import TurnEvent

EVERY_NS: Final = 1_000_000_000
"""Between two words to the edge about one call."""

BACK_MS: Final = 6_000
"""What is asked for of the past: more than it takes to know that an answer is late."""

AHEAD_MS: Final = 5_000

_KINDS: Final = frozenset({"agent_yielded", "agent_resumed", "user_barged_in", "endpoint_revoked"})
_AGENT_IS_HEARD: Final = {"agent_audio_started": True, "agent_audio_stopped": False, "agent_yielded": False}
_NS_PER_MS: Final = 1_000_000


class Trouble:
    """What is noticed of one call.

    Args:
        late_ms: without agent audio for so long after the acoustic end of the user's speech, an answer is late.

    """

    def __init__(self, late_ms: float) -> None:
        self._late_ns = int(late_ms * _NS_PER_MS)
        self._agent_heard = False
        self._waiting_since_ns: int | None = None
        self._noticed: str | None = None
        self._told_ns: int | None = None

    def turn(self, event: TurnEvent) -> None:
        """Look at a turn fact. An answer asked for in advance and dropped unheard is no trouble."""
        self._agent_heard = _AGENT_IS_HEARD.get(event.kind, self._agent_heard)
        if event.kind in _KINDS and event.reason != "speculative":
            self._notice(event.kind)
        elif event.kind == "agent_audio_stopped" and event.reason == "error":
            self._notice("failed")
        if event.kind == "user_speech_stopped" and not self._agent_heard:
            self._waiting_since_ns = event.at_ns
        elif event.kind in {"user_speech_started", "agent_audio_started"}:
            self._waiting_since_ns = None

    def starved(self) -> None:
        """Learn that voice was due and did not leave in its time."""
        self._notice("starved")

    def due(self, now_ns: int) -> str | None:
        """Return what the edge is to be told of now, if anything: at most one thing a second, the first of it.

        Args:
            now_ns: UTC, as in turn facts.

        """
        if self._waiting_since_ns is not None and now_ns - self._waiting_since_ns >= self._late_ns:
            self._waiting_since_ns = None
            self._notice("late")
        # A clock that was set back must not silence it.
        if self._noticed is None or (self._told_ns is not None and 0 <= now_ns - self._told_ns < EVERY_NS):
            return None
        noticed, self._noticed, self._told_ns = self._noticed, None, now_ns
        return noticed

    def _notice(self, what: str) -> None:
        self._noticed = self._noticed or what
