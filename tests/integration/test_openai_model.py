"""The model behind a Realtime API, against a server that speaks the protocol, well and badly."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from relay.models import (
    FRAME_SAMPLES,
    Audio,
    Event,
    FirstToken,
    ModelError,
    ModelOutput,
    OpenAIConfig,
    Pcm,
    ToolEnded,
    ToolStarted,
    Transcript,
    openai_answer,
)
from relay.models.openai_realtime import OpenAIRealtimeModel
from tests.integration.openai_server import RealtimeServer, realtime_server

KEY = "sk-not-a-real-key-but-a-secret"
LOUD = (8000 * np.sin(np.arange(FRAME_SAMPLES) / 8)).astype(np.int16)
SILENT = np.zeros(FRAME_SAMPLES, np.int16)


class Listener:
    """Who is told things: here they are kept."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.ended: list[str] = []
        self.partials: list[tuple[str, bool]] = []
        self.late: list[bool] = []
        self.idle = True
        self.asked_to_speak = 0

    def user_partial(self, text: str, *, final: bool, answered: bool = False) -> None:
        self.partials.append((text, final))
        self.late.append(answered)

    def user_turn_ended(self, reason: str) -> None:
        self.ended.append(reason)

    def speak(self, reason: str = "model") -> bool:
        assert reason == "application"
        self.asked_to_speak += 1
        return self.idle

    def client_event(self, event: Event) -> None:
        self.events.append(event)

    def note(self, what: str, **details: object) -> None:
        self.notes.append((what, details))

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - the server brings it about, and tells nobody
            await asyncio.sleep(0.005)


@asynccontextmanager
async def model_of(
    server: RealtimeServer, key: str = KEY, wishes: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[OpenAIRealtimeModel, Listener]]:
    model = OpenAIRealtimeModel(OpenAIConfig(url=server.url, **settings), key, wishes)
    listener = Listener()
    model.attach(listener)
    try:
        yield model, listener
    finally:
        await model.aclose()


def ask(model: OpenAIRealtimeModel) -> None:
    """Say something and fall silent."""
    for frame in [LOUD] * 20 + [SILENT] * 30:
        model.hear(frame, speech=frame is LOUD)


async def answer(model: OpenAIRealtimeModel, turn_id: int = 1) -> list[ModelOutput]:
    return [output async for output in model.respond(turn_id)]


def audio(outputs: list[ModelOutput]) -> Pcm:
    return np.concatenate([output.pcm for output in outputs if isinstance(output, Audio)])


async def test_turn_is_sent_and_its_answer_comes_back_in_our_format() -> None:
    async with realtime_server() as server, model_of(server, voice="marin", instructions="Be kind.") as (model, told):
        for _ in range(200):
            model.hear(SILENT, speech=False)  # four seconds of silence concern nobody
        ask(model)
        outputs = await answer(model)
        await until(lambda: server.connections[0].response_id is None)
        (session,) = server.of("session.update")
        assert session["session"]["audio"]["input"] == {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "turn_detection": None,
        }
        assert session["session"]["audio"]["output"]["voice"] == "marin"
        assert session["session"]["instructions"] == "Be kind."
        heard_ms = server.connections[0].heard_ms
        # The speech, its lead of 300 ms, and the pause after it that ended the turn.
        assert heard_ms == 20 * (20 + 15 + 30)
        kinds = [event["type"] for event in server.received if event["type"] != "input_audio_buffer.append"]
        assert kinds == ["session.update", "input_audio_buffer.commit", "response.create"]
    assert isinstance(outputs[0], FirstToken)
    pcm = audio(outputs)
    assert 0 <= pcm.size - 48 * 2_000 <= 48 * 2
    middle = pcm[48_000:52_800].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 20  # 200 Hz in 100 ms
    assert abs(float(np.sqrt(np.mean(middle**2))) - 8000 / np.sqrt(2)) < 60
    words = "".join(output.text for output in outputs if isinstance(output, Transcript))
    assert words.startswith("word0 word1 ")
    assert told.kinds()[0] == "session.created"
    assert "response.output_audio.delta" not in told.kinds()
    assert "response.output_audio_transcript.delta" in told.kinds()
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_servers_own_detection_says_when_a_turn_is_over(detection: str) -> None:
    async with (
        realtime_server() as server,
        model_of(server, turn_detection=detection, transcription="whisper-1") as (model, told),
    ):
        ask(model)
        await until(lambda: told.ended == [detection])
        await answer(model)
        detector = server.connections[0].session["audio"]["input"]["turn_detection"]
        assert detector == {"type": detection, "create_response": False, "interrupt_response": False}
        assert not server.of("input_audio_buffer.commit")
        assert "input_audio_buffer.speech_started" in told.kinds()
    assert told.partials[:2] == [("when do ", False), ("when do you open", False)]
    assert told.partials[-1] == ("when do you open", True)
    assert not any(told.late)


async def test_words_of_a_turn_that_was_asked_about_are_told_from_those_of_the_present_one() -> None:
    async with (
        realtime_server() as server,
        model_of(server, transcription="whisper-1") as (model, told),
    ):
        ask(model)
        await answer(model)  # it is this that commits the user's words, and only then are they understood
        await until(lambda: ("when do you open", True) in told.partials)
        assert all(told.late)


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_turn_that_we_end_before_the_servers_detector_does_has_the_users_words(detection: str) -> None:
    wishes = {"audio": {"input": {"turn_detection": {"type": detection, "silence_duration_ms": 5_000}}}}
    async with realtime_server() as server, model_of(server, wishes=wishes, turn_detection=detection) as (model, told):
        for turn_id in (1, 2):
            ask(model)
            await answer(model, turn_id)
            kinds = [event["type"] for event in server.received if event["type"] != "input_audio_buffer.append"]
            assert kinds[1:] == ["input_audio_buffer.commit", "response.create"] * turn_id
        assert told.ended == []  # it was not the server that said so
        assert not [event for event in server.sent if event["type"] == "error"]


async def test_interruption_takes_back_what_was_not_heard() -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        ask(model)
        stream = model.respond(1)
        async for output in stream:
            if isinstance(output, Audio):
                break
        await until(lambda: server.connections[0].response_id is None)
        model.interrupted(1, 740.0)
        await stream.aclose()
        await until(lambda: bool(server.connections[0].truncated))
        assert list(server.connections[0].truncated.values()) == [740]
        ask(model)
        await answer(model, 2)  # the conversation goes on
        errors = {event["error"]["code"] for event in server.sent if event["type"] == "error"}
        assert errors <= {"response_cancel_not_active"}  # the answer was complete in the moment that it was cancelled


async def test_application_is_not_told_of_errors_about_what_it_did_not_do() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        ask(model)
        await answer(model)
        server.connections[0].items.clear()  # the server forgets what it said
        model.interrupted(1, 740.0)
        model.client_event({"type": "conversation.item.retrieve", "item_id": "no such item", "event_id": "mine"})
        await until(lambda: "error" in told.kinds())
        errors = [event["error"] for event in server.sent if event["type"] == "error"]
        assert [error["code"] for error in errors] == ["invalid_value", "unknown_event_type"]
        assert [event["error"]["event_id"] for event in told.events if event["type"] == "error"] == ["mine"]


async def test_answer_that_nobody_heard_is_taken_out_of_the_conversation() -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        server.faults.think_s = 0.2
        ask(model)
        task = asyncio.create_task(answer(model))
        await until(lambda: bool(server.of("response.create")))
        model.interrupted(1, 0.0)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: any(event["type"] == "response.done" for event in server.sent))
        ask(model)
        assert audio(await answer(model, 2)).size > 48 * 1_900
        connection = server.connections[0]
        spoken = [e["item"]["id"] for e in server.sent if e["type"] == "response.output_item.added"]
        assert set(spoken[:-1]) == set(connection.deleted)


async def test_tool_is_the_applications_and_its_answer_belongs_to_the_turn() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        server.tools = ["opening_hours"]
        ask(model)
        outputs: list[ModelOutput] = []
        async for output in model.respond(1):
            outputs.append(output)
            if isinstance(output, ToolStarted):
                await until(lambda: "response.function_call_arguments.done" in told.kinds())
                call = next(e for e in told.events if e["type"] == "response.function_call_arguments.done")
                result = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"open":"9"}'}
                model.client_event({"type": "conversation.item.create", "item": result})
                model.client_event({"type": "response.create"})
        tools = [one for one in outputs if isinstance(one, ToolStarted | ToolEnded)]
        assert tools == [ToolStarted("opening_hours"), ToolEnded("opening_hours")]
        assert audio(outputs).size > 48 * 1_900
        assert told.asked_to_speak == 0


async def test_tool_of_a_remote_server_is_told_and_its_answer_belongs_to_the_turn() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        server.remote = ["opening_hours"]
        ask(model)
        outputs: list[ModelOutput] = []
        async for output in model.respond(1):
            outputs.append(output)
            if isinstance(
                output, ToolEnded
            ):  # the application has learnt of it, and asks for what the model makes of it
                assert told.kinds()[-1] == "response.mcp_call.completed"
                model.client_event({"type": "response.create"})
        await model.aclose()
        assert [kind for kind in told.kinds() if "mcp_call." in kind] == [
            "response.mcp_call.in_progress",
            "response.mcp_call.completed",
        ]
        tools = [one for one in outputs if isinstance(one, ToolStarted | ToolEnded)]
        assert tools == [ToolStarted("opening_hours"), ToolEnded("opening_hours")]
        assert audio(outputs).size > 48 * 1_900
        assert (told.asked_to_speak, model.counts["malformed"]) == (0, 0)


@pytest.mark.parametrize("idle", [True, False])
async def test_response_that_the_application_asks_for_is_spoken_if_nobody_else_speaks(idle: bool) -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        told.idle = idle
        server.faults.think_s = 0.1
        model.hear(SILENT, speech=False)
        model.client_event({"type": "response.create", "response": {"instructions": "Greet."}})
        await until(lambda: told.asked_to_speak == 1)
        if idle:
            assert audio(await answer(model, 0)).size > 48 * 1_900
        else:
            await until(lambda: bool(server.of("response.cancel")))


async def test_applications_settings_reach_the_server_without_those_that_are_ours() -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        model.hear(SILENT, speech=False)
        audio_wish = {
            "input": {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "server_vad"}},
            "output": {"voice": "cedar", "format": {"type": "audio/pcmu"}},
        }
        wish = {"type": "realtime", "model": "other", "instructions": "Be brief.", "audio": audio_wish}
        model.client_event({"type": "session.update", "session": wish, "event_id": "mine"})
        await until(lambda: len(server.of("session.update")) == 2)
        asked = {"type": "realtime", "instructions": "Be brief.", "audio": {"input": {}, "output": {"voice": "cedar"}}}
        assert server.of("session.update")[1] == {"type": "session.update", "session": asked, "event_id": "mine"}


async def test_session_that_the_server_refuses_is_asked_for_without_the_applications_wishes() -> None:
    wishes = {"audio": {"output": {"voice": "no such voice"}}}
    async with realtime_server() as server, model_of(server, wishes=wishes, instructions="Be kind.") as (model, told):
        ask(model)
        assert audio(await answer(model)).size > 48 * 1_900
        session = server.connections[0].session
        assert (session["instructions"], session["audio"]["input"]["turn_detection"]) == ("Be kind.", None)
        assert [event["error"]["code"] for event in told.events if event["type"] == "error"] == ["invalid_value"]
        assert [what for what, _ in told.notes] == ["session_refused"]


async def test_connection_that_is_cut_costs_an_answer_and_a_new_one_is_made() -> None:
    async with realtime_server() as server, model_of(server, instructions="Remember.") as (model, told):
        server.faults.cut_after = 3
        ask(model)
        with pytest.raises(ModelError, match="lost"):
            await answer(model)
        await until(lambda: len(server.connections) == 2 and len(server.of("session.update")) == 2)
        ask(model)
        assert audio(await answer(model, 2)).size > 48 * 1_900
        assert server.of("session.update")[1]["session"]["instructions"] == "Remember."
        assert [what for what, _ in told.notes] == ["connection_lost", "reconnected"]
        assert told.kinds().count("session.created") == 1


async def test_connection_that_is_cut_ends_what_the_application_asked_for_at_once() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        server.faults.cut_after = 3
        model.hear(SILENT, speech=False)
        model.client_event({"type": "response.create"})
        await until(lambda: told.asked_to_speak == 1)
        async with asyncio.timeout(5):
            with pytest.raises(ModelError, match="lost"):
                await answer(model, 0)


async def test_rate_limits_are_waited_for_or_named() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        server.faults.refuse = [429]
        server.faults.exhausted_s = 0.3
        ask(model)
        await answer(model, 1)
        limited_at = asyncio.get_running_loop().time()
        server.faults.exhausted_s = 60.0
        ask(model)
        await answer(model, 2)
        assert asyncio.get_running_loop().time() - limited_at > 0.1
        ask(model)
        with pytest.raises(ModelError, match="rate limit"):
            await answer(model, 3)
        assert model.counts["rate_limited"] == 2
        assert told.notes[0][0] == "connection_lost"


async def test_malformed_events_are_counted_and_ignored() -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        server.faults.junk = True
        for turn_id in (1, 2):
            ask(model)
            assert audio(await answer(model, turn_id)).size > 48 * 1_900
        await model.aclose()
        assert model.counts["malformed"] > 20
        assert (model.counts["lost"], model.counts["rate_limited"]) == (0, 0)


async def test_failures_of_the_server_are_errors_in_words() -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        server.faults.fail = "too many people"
        server.faults.busy = 1
        ask(model)
        with pytest.raises(ModelError, match="too many people"):
            await answer(model)
        ask(model)
        assert audio(await answer(model, 2)).size > 48 * 1_900


async def test_server_that_repeats_the_key_is_not_repeated() -> None:
    async with realtime_server() as server, model_of(server) as (model, told):
        server.faults.fail = f"Incorrect API key provided: {KEY}"
        ask(model)
        with pytest.raises(ModelError, match="Incorrect API key provided") as refused:
            await answer(model)
        assert KEY not in str(refused.value) + json.dumps([told.events, told.notes], default=str)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_answer_that_the_server_breaks_off_is_an_error_after_what_was_said(reason: str) -> None:
    async with realtime_server() as server, model_of(server) as (model, _):
        server.faults.incomplete = reason
        ask(model)
        outputs: list[ModelOutput] = []

        async def listen() -> None:
            async for output in model.respond(1):
                outputs.append(output)  # noqa: PERF401 - it ends in an error

        with pytest.raises(ModelError, match=reason):
            await listen()
        assert audio(outputs).size >= 48 * 1_990
        ask(model)
        assert audio(await answer(model, 2)).size > 48 * 1_900


async def test_server_that_is_too_slow_costs_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_answer, "FIRST_S", 1.5)
    async with realtime_server() as server, model_of(server) as (model, _):
        server.faults.think_s = 20.0
        ask(model)
        with pytest.raises(ModelError, match="said nothing"):
            await answer(model)
        await until(lambda: bool(server.of("response.cancel")))
        server.faults.think_s = 0.0
        ask(model)
        assert audio(await answer(model, 2)).size > 48 * 1_900
        assert len(server.connections) == 1


async def test_key_that_is_refused_is_said_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with realtime_server() as server, model_of(server) as (model, told):
            server.faults.refuse = [401]
            ask(model)
            with pytest.raises(ModelError, match="SIDETONE_OPENAI_API_KEY") as refused:
                await answer(model)
            assert KEY not in str(refused.value)
            assert told.kinds() == ["error"]
            seen = json.dumps([told.events, told.notes], default=str) + repr(vars(model)) + repr(vars(model._link))
            assert KEY not in seen
            assert len(server.keys) == 1  # a refused key is not tried again
    assert KEY not in caplog.text
