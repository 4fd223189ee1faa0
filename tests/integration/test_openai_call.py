"""Whole calls with a model behind the Realtime API: what the caller hears, what is written down, and what is not."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from eventlog.schema import FACTS
from relay.models import Application, ModelConfig, OpenAIConfig
from tests.integration.openai_server import RealtimeServer, realtime_server
from tests.integration.transceiver_tools import Client, World, question, until, world
from voice.floor import FloorConfig

KEY = "sk-secret-of-this-test"
OTHER_KEY = "sk-secret-of-the-caller"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_OPENAI_API_KEY", KEY)


class Caller(Client):
    """A client that keeps the model's events, too."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.oai = self.peer.createDataChannel("oai-events")
        self.oai.on("message", lambda text: self.events.append(json.loads(text)))

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


def behind(server: RealtimeServer, **settings: Any) -> ModelConfig:
    return ModelConfig("openai_realtime", openai=OpenAIConfig(url=server.url, **settings))


async def over(made: World, client: Client) -> None:
    await client.close()
    await until(lambda: made.transceiver.sessions == 0)


async def test_question_is_answered_by_the_server_and_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client = Caller()
    with caplog.at_level(logging.DEBUG):
        async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
            await made.call(client)
            await client.microphone.say(question(), "normal")
            await until(lambda: "agent_audio_stopped" in client.turns())
            await until(client.hears_voice)
            await over(made, client)
            await until(lambda: server.connections[0].socket.state.name == "CLOSED")
            assert server.connections[0].heard_ms > 1_000
            assert server.keys == [f"Bearer {KEY}"]
    turns = [row for row in await made.facts("turn", client.session_id) if row["turn_id"] == 1]
    at = {row["kind"]: row["at_ns"] for row in turns}
    order = ["endpoint_decided", "response_requested", "model_first_token", "model_first_audio", "agent_audio_started"]
    assert [kind for kind in at if kind in order] == order
    assert all(at[first] <= at[then] for first, then in itertools.pairwise(order))
    (offered,) = [row for row in await made.facts("session", client.session_id) if row["step"] == "offered"]
    assert dict(offered["attributes"])["model"] == "openai_realtime"
    assert {"session.created", "input_audio_buffer.committed", "output_audio_buffer.started"} <= set(client.kinds())
    # The key is in no fact, no log and no event.
    for name in FACTS:
        assert KEY not in repr(await made.facts(name)), name
    assert KEY.encode() not in made.path.read_bytes()
    captured = capfd.readouterr()
    assert KEY not in caplog.text + captured.out + captured.err + json.dumps(client.events)


async def test_user_who_barges_in_truncates_the_answer_at_what_was_heard(tmp_path: Path) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        server.answer_ms = 20_000
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_started" in client.turns())
        await client.microphone.say(question("user_weather"), "barge-in")
        await until(lambda: client.turns().count("agent_audio_started") == 2)
        (truncated_ms,) = server.connections[0].truncated.values()
        await over(made, client)
    turns = await made.facts("turn", client.session_id)
    started = next(row for row in turns if row["kind"] == "agent_audio_started")
    stopped = next(row for row in turns if row["kind"] == "agent_audio_stopped")
    assert stopped["reason"] == "yielded"
    frames = [
        row
        for row in await made.facts("frame", client.session_id)
        if row["direction"] == "out"
        and row["kind"] == "played"
        and started["at_ns"] <= row["observed_ns"] <= stopped["at_ns"]
    ]
    assert abs(truncated_ms - 20 * len(frames)) <= 20
    assert "output_audio_buffer.cleared" in client.kinds()
    assert "conversation.item.truncated" in client.kinds()


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_servers_detection_works_through_a_call(tmp_path: Path, detection: str) -> None:
    client = Caller()
    async with (
        realtime_server() as server,
        world(tmp_path, model=behind(server, turn_detection=detection)) as made,
    ):
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_started" in client.turns())
        assert client.kinds().count("input_audio_buffer.speech_started") >= 1
        assert all(event["item_id"].startswith("item_1_") for event in client.events if "speech_" in event["type"])
        await over(made, client)


async def decision(made: World, client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ended the call's one turn, and what that went by."""
    turns = await made.facts("turn", client.session_id)
    decided = [row for row in turns if row["kind"] == "endpoint_decided"]
    assert [row["turn_id"] for row in decided] == [1]
    assert [row["turn_id"] for row in turns if row["kind"] == "agent_audio_started"] == [1]
    return decided[0], json.loads(decided[0]["inputs"])


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_turn_ends_when_the_listening_model_says_so(tmp_path: Path, detection: str) -> None:
    client = Caller()
    patient = FloorConfig(endpoint_silence_ms=60_000.0, likely_silence_ms=60_000.0, unlikely_silence_ms=60_000.0)
    async with (
        realtime_server() as server,
        world(tmp_path, model=behind(server, turn_detection=detection), endpointing="model", floor=patient) as made,
    ):
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        await until(client.hears_voice)
        await over(made, client)
    decided, inputs = await decision(made, client)
    assert (inputs["endpointing"], inputs["model_reason"]) == ("model", detection)
    assert decided["probability"] is None
    assert decided["silence_ms"] < 60_000
    committed = [event for event in server.sent if event["type"] == "input_audio_buffer.committed"]
    assert len(committed) == 1
    assert server.of("input_audio_buffer.commit") == []


@pytest.mark.parametrize(
    ("words", "believed", "waited_ms"),
    [
        (["when ", "do ", "you ", "open?"], 0.95, 200.0),  # a sentence
        (["I ", "would ", "like ", "to"], 0.05, 1_500.0),  # one that is not over: its silence is waited out
    ],
)
async def test_turn_ends_by_the_users_words(
    tmp_path: Path, words: list[str], believed: float, waited_ms: float
) -> None:
    client = Caller()
    floor = FloorConfig(endpoint_silence_ms=60_000.0, likely_silence_ms=200.0, unlikely_silence_ms=1_500.0)
    async with (
        realtime_server() as server,
        world(
            tmp_path, model=behind(server, transcription="gpt-realtime-whisper"), endpointing="transcript", floor=floor
        ) as made,
    ):
        server.partials = list(words)
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        await until(client.hears_voice)
        await over(made, client)
        assert server.partials == []
    decided, inputs = await decision(made, client)
    assert (inputs["endpointing"], inputs["predictor"]) == ("predictor", "transcript:en:1")
    assert inputs["endpoint_silence_ms"] == waited_ms
    assert decided["probability"] == pytest.approx(believed)
    assert decided["silence_ms"] >= waited_ms
    predictions = [row for row in await made.facts("input", client.session_id) if row["kind"] == "prediction"]
    assert json.loads(predictions[-1]["payload"])["probability"] == pytest.approx(believed)


async def test_tool_is_run_by_the_application_and_is_a_fact(tmp_path: Path) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        server.tools = ["opening_hours"]
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "response.function_call_arguments.done" in client.kinds())
        call = next(e for e in client.events if e["type"] == "response.function_call_arguments.done")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"open":"9"}'}
        client.oai.send(json.dumps({"type": "conversation.item.create", "item": result}))
        client.oai.send(json.dumps({"type": "response.create"}))
        await until(lambda: "agent_audio_stopped" in client.turns())
        await over(made, client)
    kinds = [row["kind"] for row in await made.facts("turn", client.session_id)]
    assert kinds.index("tool_started") < kinds.index("tool_ended") < kinds.index("agent_audio_started")
    assert kinds.count("agent_audio_started") == 1


async def test_greeting_that_the_application_asks_for_is_heard(tmp_path: Path) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        await made.call(client)
        await until(lambda: "session.created" in client.kinds())
        client.oai.send(json.dumps({"type": "response.create", "response": {"instructions": "Say hello."}}))
        await until(lambda: "agent_audio_stopped" in client.turns())
        assert client.hears_voice()
        await over(made, client)


async def test_call_goes_on_after_the_models_connection_was_cut(tmp_path: Path) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        server.faults.cut_after = 2
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: len(server.connections) == 2)
        await until(lambda: "agent_audio_stopped" in client.turns())
        await client.microphone.say(question("user_weather"), "normal")
        await until(lambda: client.turns().count("agent_audio_started") == 2)
        await over(made, client)
    stops = [
        row["reason"] for row in await made.facts("turn", client.session_id) if row["kind"] == "agent_audio_stopped"
    ]
    assert stops[0] == "error"
    notes = [
        json.loads(row["payload"]) for row in await made.facts("input", client.session_id) if row["kind"] == "model"
    ]
    told = {note["what"]: note for note in notes}
    assert sorted(told) == ["answer_failed", "connection_lost", "reconnected"]
    assert len(notes) == len(told)
    assert told["reconnected"]["context"] == "lost"
    assert "the answer was lost" in told["answer_failed"]["problem"]


async def test_call_whose_key_is_refused_goes_on_without_answers(tmp_path: Path) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        server.faults.refuse = [401]
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "error" in client.kinds())
        assert "refuses the key" in next(e for e in client.events if e["type"] == "error")["error"]["message"]
        assert made.transceiver.sessions == 1
        await over(made, client)


async def test_callers_own_key_is_handed_on_only_where_that_is_set(tmp_path: Path) -> None:
    for hand_on, expected in ((False, KEY), (True, OTHER_KEY)):
        client = Caller()
        path = tmp_path / str(hand_on)
        path.mkdir()
        async with realtime_server() as server, world(path, model=behind(server, hand_on=hand_on)) as made:
            brought = Application({"instructions": "Be brief."}, OTHER_KEY)
            answer = await made.transceiver.answer(await client.offer(), application=brought)
            await client.accept(answer.sdp)
            await until(lambda known=server: bool(known.of("session.update")))  # type: ignore[misc]
            assert server.keys == [f"Bearer {expected}"]
            assert server.of("session.update")[0]["session"]["instructions"] == "Be brief."
            await over(made, client)
        for name in FACTS:
            assert OTHER_KEY not in repr(await made.facts(name)), name


async def test_words_are_kept_of_calls_that_consented(tmp_path: Path) -> None:
    open_minded, private = Caller(), Caller()
    async with (
        realtime_server() as server,
        world(tmp_path, model=behind(server, transcription="whisper-1")) as made,
    ):
        await made.call(open_minded, consent="audio")
        await made.call(private)
        for client in (open_minded, private):
            await client.microphone.say(question(), "normal")
        await until(lambda: all("agent_audio_stopped" in client.turns() for client in (open_minded, private)))
        for client in (open_minded, private):
            await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    texts = [row for row in await made.facts("input") if row["kind"] in ("user_text", "agent_text")]
    assert open_minded.session_id is not None
    assert {row["session_id"] for row in texts} == {open_minded.session_id.bytes}
    assert {row["kind"] for row in texts} == {"user_text", "agent_text"}


def mentioning(detection: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}


@pytest.mark.parametrize("detection", ["own", "server_vad"])
async def test_application_that_is_written_for_push_to_talk_is_obeyed(tmp_path: Path, detection: str) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server, turn_detection=detection)) as made:
        answer = await made.transceiver.answer(await client.offer(), application=Application(mentioning(None)))
        await client.accept(answer.sdp)
        await client.connected()
        await until(lambda: "session.updated" in client.kinds())
        shown = next(event for event in client.events if event["type"] == "session.updated")["session"]
        assert shown["audio"]["input"]["turn_detection"] is None
        assert server.connections[0].session["audio"]["input"]["turn_detection"] is None
        client.oai.send(json.dumps({"type": "input_audio_buffer.clear"}))
        await client.microphone.say(question(), "normal")
        await until(lambda: "user_speech_stopped" in client.turns())
        assert not server.of("input_audio_buffer.commit")
        client.oai.send(json.dumps({"type": "input_audio_buffer.commit", "event_id": "mine"}))
        client.oai.send(json.dumps({"type": "response.create"}))
        await until(lambda: "agent_audio_stopped" in client.turns())
        assert [event["event_id"] for event in server.of("input_audio_buffer.commit")] == ["mine"]
        assert client.kinds().count("input_audio_buffer.committed") == 1
        await over(made, client)
    turns = await made.facts("turn", client.session_id)
    assert [row["reason"] for row in turns if row["kind"] in ("endpoint_decided", "response_requested")] == [
        "application"
    ] * 2
    assert [row["turn_id"] for row in turns if row["kind"] == "agent_audio_started"] == [1]


@pytest.mark.parametrize("detection", ["own", "server_vad"])
async def test_application_that_asks_for_answers_itself_gets_turns_committed(tmp_path: Path, detection: str) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server, turn_detection=detection)) as made:
        await made.call(client)
        await until(lambda: "session.created" in client.kinds())
        wish = mentioning({"type": "server_vad", "create_response": False})
        client.oai.send(json.dumps({"type": "session.update", "session": wish}))
        await until(lambda: client.kinds().count("session.updated") == 2)
        await client.microphone.say(question(), "normal")
        await until(lambda: "input_audio_buffer.committed" in client.kinds() and "endpoint_decided" in client.turns())
        assert not server.of("response.create")
        client.oai.send(json.dumps({"type": "response.create"}))
        await until(lambda: "agent_audio_stopped" in client.turns())
        assert client.kinds().count("input_audio_buffer.committed") == 1
        assert len(server.of("response.create")) == 1
        assert "error" not in client.kinds()
        await over(made, client)
    turns = await made.facts("turn", client.session_id)
    assert [row["reason"] for row in turns if row["kind"] in ("endpoint_decided", "response_requested")] == [
        None,
        "application",
    ]


@pytest.mark.parametrize("interrupted", [False, True])
async def test_answer_asked_for_while_an_earlier_one_plays_is_heard_after_it(tmp_path: Path, interrupted: bool) -> None:
    client = Caller()
    async with realtime_server() as server, world(tmp_path, model=behind(server)) as made:
        server.answer_ms = 8_000 if interrupted else 2_000
        await made.call(client)
        await until(lambda: "session.created" in client.kinds())
        for count in (1, 2):
            client.oai.send(json.dumps({"type": "response.create"}))
            await until(lambda known=count: client.kinds().count("response.done") == known)  # type: ignore[misc]
            await until(lambda: "agent_audio_started" in client.turns())
        first, second = (e["response"]["id"] for e in client.events if e["type"] == "response.created")
        if interrupted:
            await client.microphone.say(question("user_weather"), "barge-in")
        await until(lambda: client.turns().count("agent_audio_started") == 2)
        await over(made, client)
    heard = [(e["type"].split(".")[-1], e["response_id"]) for e in client.events if "output_audio_buffer." in e["type"]]
    if interrupted:  # what was asked for meanwhile is taken back, too
        third = [e["response"]["id"] for e in client.events if e["type"] == "response.created"][2]
        assert heard[:3] == [("started", first), ("cleared", first), ("started", third)]
        assert len(server.connections[0].deleted) == 1
    else:
        assert heard[:3] == [("started", first), ("stopped", first), ("started", second)]
        requests = [r for r in await made.facts("turn", client.session_id) if r["kind"] == "response_requested"]
        assert [row["reason"] for row in requests] == ["application"] * 2
