from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from relay.models import Event, Model, Transcript
from relay.transceiver.counters import Counters
from relay.transceiver.events import EventsChannel
from relay.transceiver.realtime import RealtimeEvents
from voice.floor import Control
from voice.turns import TurnEvent

SERVER: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)
KINDS = [
    "session.update",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.delete",
    "conversation.item.truncate",
    "input_audio_buffer.clear",
    "input_audio_buffer.commit",
    "input_audio_buffer.append",
    "else",
]
NAMES = st.sampled_from(
    ["session", "item", "item_id", "content_index", "audio_end_ms", "event_id", "type", "audio", "id"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
)
TURNS = [
    "user_speech_started",
    "user_speech_stopped",
    "endpoint_candidate",
    "endpoint_decided",
    "endpoint_revoked",
    "response_requested",
    "model_first_audio",
    "agent_audio_started",
    "agent_audio_stopped",
    "user_barged_in",
]


class Mute(Model):
    name = "mute"


class Floor:
    """Who lets the agent speak every second time."""

    def __init__(self) -> None:
        self.asked = 0

    def answer(self) -> bool:
        self.asked += 1
        return bool(self.asked % 2)

    cut = answer

    def leave(self, control: Control) -> None:
        self.control = control

    def commit(self) -> None:
        self.asked += 1


def call(told: list[Event]) -> tuple[RealtimeEvents, EventsChannel]:
    events = RealtimeEvents("call-1", Mute(), told.append, {})  # type: ignore[arg-type]
    events.control(Floor())
    return events, EventsChannel(Counters(), events.received, events.refuse)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(NAMES, JSON, max_size=4)), max_size=6))
def test_clients_may_send_anything(sent: list[tuple[str, dict[str, Any]]]) -> None:
    told: list[Event] = []
    _, channel = call(told)
    for kind, fields in sent:
        channel.received(json.dumps({**fields, "type": kind}))
    for event in told:
        if not event["type"].startswith(("session.", "conversation.item.added", "conversation.item.done")):
            SERVER.validate_python(event)  # those echo what the client put in


@given(
    st.text(max_size=30) | st.binary(max_size=30) | st.integers(1, 3_000).map(lambda depth: '{"type":' + "[" * depth)
)
def test_what_is_no_event_gets_an_error(message: str | bytes) -> None:
    told: list[Event] = []
    _, channel = call(told)
    channel.received(message)
    assert [event["type"] for event in told[1:]] == ["error"]
    SERVER.validate_python(told[-1])


def test_event_nested_as_deep_as_a_parser_takes_harms_nobody() -> None:
    told: list[Event] = []
    _, channel = call(told)
    for depth in range(100, 1_000, 50):
        channel.received('{"type":"session.update","session":' + '{"a":' * depth + "1" + "}" * depth + "}")
        channel.received(
            '{"type":"conversation.item.create","item":{"type":"x","a":' + "[" * depth + "]" * depth + "}}"
        )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*TURNS, "words", "failed", "ended", "cut"]),
            st.integers(0, 4),
            st.sampled_from(["completed", "yielded"]),
        ),
        max_size=25,
    )
)
def test_any_order_of_facts_gives_valid_events(facts: list[tuple[str, int, str]]) -> None:
    told: list[Event] = []
    events, _ = call(told)
    for kind, turn_id, reason in facts:
        if kind == "words":
            events.said(Transcript("some words"))
        elif kind == "failed":
            events.ended("no quota")
        elif kind == "ended":
            events.ended(None)
        elif kind == "cut":
            events.cut()
        else:
            events.turn(TurnEvent(kind, "user", turn_id, 0, audio_ms=12.5, reason=reason))
    for event in told:
        SERVER.validate_python(event)
    ids = [event["event_id"] for event in told]
    assert len(set(ids)) == len(ids)
    responses = [event["response"]["id"] for event in told if event["type"] == "response.created"]
    done = [event["response"]["id"] for event in told if event["type"] == "response.done"]
    assert done == responses[: len(done)]  # each is done once, in order
    assert len(done) >= len(responses) - 1


def test_answer_of_a_server_that_names_no_conversation_is_the_one_that_is_heard() -> None:
    told: list[Event] = []
    events, _ = call(told)
    events.model_event({"type": "response.created", "response": {"id": "resp_theirs"}})
    events.turn(TurnEvent("agent_audio_started", "agent", 1, 0, audio_ms=0.0))
    assert told[-1]["response_id"] == "resp_theirs"
    events.model_event({"type": "response.created", "response": {"id": "resp_aside", "conversation_id": None}})
    events.turn(TurnEvent("agent_audio_stopped", "agent", 1, 0, audio_ms=0.0, reason="completed"))
    assert told[-1] == {**told[-1], "type": "output_audio_buffer.stopped", "response_id": "resp_theirs"}
