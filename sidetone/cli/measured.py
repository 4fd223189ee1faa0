"""What the platform measured of calls that were just made: from the store, or from what it said during the call.

The store knows more (the whole way to the listener's ear, errors with hindsight), but facts take a moment to arrive
there; where it cannot be reached, or has not got the calls in time, the turn events of each call's own data channel
stand in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import analytics
from relay.caller.verdicts import utterance_at
from sidetone.settings import Settings

PATIENCE_S: Final = 10.0
"""How long the facts of a call that has ended may take into the store."""

STORE: Final = "store"
CHANNEL: Final = "data channel"
_POLL_S: Final = 0.3
_TURN: Final = ("turn_id", "response_ms", "listener_ms", "method", "uplink_ms", "downlink_ms", "clock_error_ms")
_EVER: Final = {"from": "now-1d", "to": "now+1h"}


def measured(settings: Settings, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each call's report, `source` (`store` or `data channel`), `turns` and `errors`.

    A turn has `turn_id` and, of the question `listener_latency`, `response_ms` (at the relay), `listener_ms`, `method`,
    `uplink_ms`, `downlink_ms` and `clock_error_ms`, by which the last two may be wrong; None where the source knows
    nothing.
    An error has `kind`, `side` (who is charged with it), `turn` (number of the caller's utterance that it belongs to),
    `value_ms` and `evidence`; they come in the order in which they happened. The data channel cannot tell any: None.
    """
    sessions = [call["session_id"] for call in calls if call["session_id"] is not None]
    stored = _from_store(settings, sessions) if sessions else None
    if stored is None:
        return [_from_channel(call) for call in calls]
    turns, errors = stored
    return [
        {
            "source": STORE,
            "turns": [{name: row[name] for name in _TURN} for row in turns if row["session_id"] == call["session_id"]],
            "errors": [
                {"kind": row["kind"], "turn": utterance_at(call, row["at_ns"])}
                | {name: row[name] for name in ("side", "value_ms", "evidence")}
                for row in sorted(errors, key=lambda row: int(row["at_ns"]))
                if row["session_id"] == call["session_id"]
            ],
        }
        for call in calls
    ]


def _from_store(
    settings: Settings, sessions: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Turns and errors once the store has the end of every call; None if it does not answer or does not have them."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        client = analytics.connect(*settings.store())
    except analytics.StoreUnavailableError:
        return None
    try:
        while not _all_closed(client, sessions):
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)
        turns, errors = (
            [
                row
                for session in sessions
                for row in analytics.run(client, question, _EVER | {"session": session}).records()
            ]
            for question in ("listener_latency", "turn_errors")
        )
    except analytics.QuestionError:
        return None  # a store without our tables, or one that went away
    finally:
        client.close()
    return turns, errors


def _all_closed(client: Any, sessions: Sequence[str]) -> bool:
    rows = analytics.run(client, "sessions", _EVER | {"limit": 10 * len(sessions) + 100}).records()
    closed = {row["session_id"] for row in rows if row["ended_ns"] is not None}
    return closed.issuperset(sessions)


def _from_channel(call: Mapping[str, Any]) -> dict[str, Any]:
    """Each answer's beginning less the user's last acoustic end before it, as the relay told them at the time."""
    stopped: dict[int, int] = {}
    turns = []
    for event in call["turns"]:
        if event["kind"] == "user_speech_stopped":
            stopped[event["turn_id"]] = event["at_ns"]
        elif event["kind"] == "agent_audio_started":
            ended = stopped.get(event["turn_id"])
            response_ms = None if ended is None else (event["at_ns"] - ended) / 1e6
            turns.append(dict.fromkeys(_TURN) | {"turn_id": event["turn_id"], "response_ms": response_ms})
    return {"source": CHANNEL, "turns": turns, "errors": None}
