"""Turn-taking in whole calls: answers asked for in advance, and an agent that goes on after a false barge-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.models import ModelConfig
from tests.integration.transceiver_tools import Client, question, until, world
from voice.endpointing import Heard
from voice.floor import FloorConfig

SCRIPTED = ModelConfig("scripted", think_median_ms=50.0, think_sigma=0.0)


def kinds(turns: list[dict[str, Any]], *wanted: str) -> list[tuple[str, int, str | None]]:
    return [(row["kind"], row["turn_id"], row["reason"]) for row in turns if row["kind"] in wanted]


async def test_an_answer_asked_for_in_advance_is_heard_once_the_turn_is_over(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path, model=SCRIPTED, floor=FloorConfig(speculate_ms=200.0)) as made:
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        counted = made.transceiver.counters.speculations
        assert client.session_id is not None
        await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    assert counted == {"asked": 1, "used": 1}
    turns = await made.facts("turn", client.session_id)
    assert kinds(turns, "response_requested", "endpoint_decided", "agent_audio_started", "endpoint_revoked") == [
        ("response_requested", 1, "speculative"),
        ("endpoint_decided", 1, None),
        ("agent_audio_started", 1, None),
    ]


async def test_an_answer_asked_for_in_a_pause_is_dropped_unheard(tmp_path: Path) -> None:
    client = Client()
    floor = FloorConfig(speculate_ms=200.0, endpoint_silence_ms=1_500.0)
    async with world(tmp_path, model=SCRIPTED, floor=floor) as made:
        await made.call(client)
        said = await client.microphone.say(question("user_pause_change"), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        counted = made.transceiver.counters.speculations
        assert client.session_id is not None
        await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    assert counted == {"asked": 2, "dropped": 1, "used": 1}
    turns = await made.facts("turn", client.session_id)
    assert kinds(turns, "response_requested", "endpoint_decided", "agent_audio_started", "endpoint_revoked") == [
        ("response_requested", 1, "speculative"),
        ("endpoint_revoked", 1, "speculative"),
        ("response_requested", 1, "speculative"),
        ("endpoint_decided", 1, None),
        ("agent_audio_started", 1, None),
    ]
    assert next(row for row in turns if row["kind"] == "agent_audio_started")["at_ns"] > said.end_ns


async def test_an_agent_that_gave_way_to_an_okay_goes_on(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path, model=SCRIPTED) as made:
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(client.hears_voice)
        await client.microphone.say(question("backchannel_okay"), "backchannel")
        await until(lambda: client.turns().count("agent_audio_stopped") == 2)
        assert client.session_id is not None
        await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    turns = await made.facts("turn", client.session_id)
    assert kinds(
        turns, "agent_audio_started", "agent_audio_stopped", "agent_yielded", "agent_resumed", "response_requested"
    ) == [
        ("response_requested", 1, None),
        ("agent_audio_started", 1, None),
        ("agent_yielded", 1, None),
        ("agent_audio_stopped", 1, "yielded"),
        ("agent_resumed", 1, "backchannel"),
        ("agent_audio_stopped", 1, "completed"),
    ]
    onsets = [row["at_ns"] for row in turns if row["kind"] == "user_speech_started" and row["turn_id"] == 2]
    assert [row["at_ns"] for row in turns if row["kind"] == "backchannel"] == onsets
    sent = [row for row in await made.facts("frame", client.session_id) if row["direction"] == "out"]
    paused, resumed = (
        next(row["at_ns"] for row in turns if row["kind"] == kind) for kind in ("agent_yielded", "agent_resumed")
    )
    voiced = [row for row in sent if row["vad"] and paused < row["observed_ns"] < resumed]
    assert [((row["observed_ns"] - paused) / 1e6, (resumed - row["observed_ns"]) / 1e6) for row in voiced] == []


class Oracle:
    """A predictor that is sure that every silence ends a turn."""

    name = "oracle"
    wants = "audio"
    threshold = 0.5

    def predict(self, heard: Heard) -> float | None:
        assert heard.audio is not None
        return 0.97


async def test_a_predictor_that_is_sure_ends_the_turn_early(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("relay.predictors.smart_turn.SmartTurn", Oracle)
    client = Client()
    floor = FloorConfig(endpoint_silence_ms=10_000.0)
    async with world(tmp_path, model=SCRIPTED, floor=floor, endpointing="smart-turn") as made:
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_started" in client.turns())
        assert made.transceiver.counters.predictions["in_time"] >= 1
        assert client.session_id is not None
        await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    decided = next(row for row in await made.facts("turn", client.session_id) if row["kind"] == "endpoint_decided")
    assert abs(decided["probability"] - 0.97) < 1e-6
    assert decided["threshold"] == 0.5
    inputs = [row["kind"] for row in await made.facts("input", client.session_id)]
    assert "prediction" in inputs
