from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.models import openai_answer
from relay.models.openai_answer import RATE, Answer
from relay.models.openai_link import Endpoint
from relay.models.openai_session import OpenAIConfig, control_of, merged, sanitised, session_of
from voice.floor import Control

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://api.openai.com/v1/realtime"},
        {"url": "wss://user:password@host/"},
        {"url": "wss://"},
        {"turn_detection": "guess"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"URL|turn detection"):
        OpenAIConfig(**settings)


def test_urls_are_made_of_the_one_that_is_set() -> None:
    config = OpenAIConfig(url="wss://host:1/v1/realtime?api-version=7", model="a model")
    assert config.full_url == "wss://host:1/v1/realtime?api-version=7&model=a+model"
    assert config.http_url == "https://host:1/v1/realtime"


def test_endpoint_does_not_show_its_key() -> None:
    assert "sk-1" not in repr(Endpoint("wss://host", "sk-1")) + str(Endpoint("wss://host", "sk-1"))


FIELDS = st.sampled_from(["audio", "input", "output", "format", "turn_detection", "type", "create_response", "model"])
WISHES = st.dictionaries(
    FIELDS, st.recursive(JSON, lambda inner: st.dictionaries(FIELDS, inner, max_size=4)), max_size=5
)


@given(wishes=WISHES)
@pytest.mark.parametrize("own", [True, False])
def test_no_wish_changes_the_media_path(wishes: dict[str, Any], own: bool) -> None:
    config = OpenAIConfig(turn_detection="own" if own else "server_vad")
    session = session_of(config, wishes)
    assert session["type"] == "realtime"
    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    detection = session["audio"]["input"]["turn_detection"]
    if detection is not None:
        assert not own
        assert (detection["create_response"], detection["interrupt_response"]) == (False, False)


def test_servers_detector_takes_the_applications_settings() -> None:
    wish = {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}}
    kept = sanitised(wish, own_endpointing=False)["audio"]["input"]["turn_detection"]
    assert kept == {
        "type": "semantic_vad",
        "eagerness": "high",
        "create_response": False,
        "interrupt_response": False,
    }


def test_session_leaves_to_the_application_what_it_names() -> None:
    def after(detection: object, before: Control) -> Control:
        return control_of({"audio": {"input": {"turn_detection": detection}}}, before)

    alone = Control()
    manual = after(None, alone)
    assert (manual.turn_detection, manual.answers, manual.interrupts) == (False, False, False)
    unanswered = after({"type": "server_vad", "create_response": False}, manual)
    assert (unanswered.answers, unanswered.interrupts) == (False, True)
    assert after({"interrupt_response": False}, unanswered) == Control(create_response=False, interrupt_response=False)
    for other in ({}, {"audio": None}, {"audio": {"input": {"noise_reduction": None}}}):
        assert control_of(other, unanswered) == unanswered


def test_update_replaces_what_it_names_and_nothing_else() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 5}
    assert merged(old, {"a": {"c": [3]}, "e": None}) == {"a": {"b": 1, "c": [3]}, "d": 5, "e": None}
    assert old == {"a": {"b": 1, "c": [1, 2]}, "d": 5}


def audio_event(item: str, ms: int) -> dict[str, Any]:
    pcm = base64.b64encode(bytes(2 * RATE * ms // 1000)).decode()
    return {"item_id": item, "content_index": 0, "delta": pcm}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.floats(0, 3_000))
def test_cut_keeps_exactly_what_was_heard(tenths: list[int], heard_ms: float) -> None:
    answer = Answer("sidetone_1", 1)
    answer.begin("resp_1")
    lengths = {f"item_{number}": 10 * tenth for number, tenth in enumerate(tenths)}
    for item, ms in lengths.items():
        answer.take("response.output_item.added", {"item": {"type": "message", "id": item}})
        answer.take("response.output_audio.delta", audio_event(item, ms))
    for event in answer.cut(heard_ms):
        if event["type"] == "conversation.item.delete":
            lengths[event["item_id"]] = 0
        else:
            assert 0 <= event["audio_end_ms"] < lengths[event["item_id"]]
            lengths[event["item_id"]] = event["audio_end_ms"]
    kept = sum(lengths.values())
    assert min(heard_ms, 10 * sum(tenths)) - 1 <= kept <= heard_ms
    assert answer.cut(heard_ms) == []


async def test_answer_that_goes_on_after_a_remote_tool_waits_for_nobody() -> None:
    answer = Answer("sidetone_1", 1)
    answer.begin("resp_1")
    answer.take("response.output_item.added", {"item": {"type": "mcp_call", "id": "mcp_1", "name": "hours"}})
    answer.tool_answered("mcp_1")
    answer.take("response.output_item.added", {"item": {"type": "message", "id": "item_1"}})
    answer.take("response.output_audio.delta", audio_event("item_1", 100))
    answer.take("response.done", {"response": {"status": "completed"}})
    async with asyncio.timeout(1):
        kinds = [type(output).__name__ async for output in answer.outputs()]
    assert kinds == ["ToolStarted", "FirstToken", "ToolEnded", "FirstToken", "Audio", "Audio"]


async def test_model_that_writes_for_long_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_answer, "FIRST_S", 0.6)
    answer = Answer("sidetone_1", 1)
    answer.begin("resp_1")

    async def write() -> None:
        for kind in ["response.output_text.delta", "response.function_call_arguments.delta"] * 4:
            await asyncio.sleep(0.1)
            answer.take(kind, {"delta": "word"})
        answer.take("response.done", {"response": {"status": "completed"}})

    writing = asyncio.create_task(write())
    assert len([output async for output in answer.outputs()]) == 8
    await writing
