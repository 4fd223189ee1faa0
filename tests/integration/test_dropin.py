"""An application written for OpenAI's WebRTC endpoint, in aiortc: it knows that API and nothing of ours."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types.realtime import RealtimeServerEvent
from openai.types.realtime.client_secret_create_response import ClientSecretCreateResponse
from pydantic import BaseModel, TypeAdapter

from relay.app import admits, create_app, readable
from relay.ephemeral import EphemeralKeys
from relay.models import ModelConfig
from sidetone.guard import guarded
from tests.integration.transceiver_tools import Client, World, question, until, world

SERVER: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)
TOKEN = "the-installation's-token"
CALLS = "/v1/realtime/calls"
SECRETS = "/v1/realtime/client_secrets"
SHOP = "https://shop.example"
SDP = {"content-type": "application/sdp"}


class Application(Client):
    """A client that knows `oai-events` and nothing of ours."""

    def __init__(self) -> None:
        super().__init__(channel=False)
        self.events: list[dict[str, Any]] = []
        self.oai = self.peer.createDataChannel("oai-events")
        self.oai.on("message", self._event)

    def _event(self, text: str) -> None:
        event = json.loads(text)
        SERVER.validate_python(event)
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def last(self, kind: str) -> dict[str, Any]:
        return next(event for event in reversed(self.events) if event["type"] == kind)

    async def heard_of(self, kind: str, count: int = 1) -> None:
        await until(lambda: self.kinds().count(kind) >= count)

    def tell(self, kind: str, **fields: Any) -> None:
        self.oai.send(json.dumps({"type": kind, **fields}))

    async def join(self, api: httpx.AsyncClient, **request: Any) -> httpx.Response:
        given: dict[str, Any] = {"content": await self.offer(), "headers": SDP}
        answer = await api.post(CALLS, **(request or given))
        assert answer.status_code == 201, answer.text
        await self.accept(answer.text)
        await self.connected()
        await self.heard_of("session.created")
        return answer


@asynccontextmanager
async def http(made: World, **bearer: str) -> AsyncIterator[httpx.AsyncClient]:
    """The app as it is served beyond loopback."""
    keys = EphemeralKeys(b"k" * 32)
    app = create_app(made.transceiver, allowed_origins=[SHOP], keys=keys, own_token=TOKEN)
    outside = guarded(app, "0.0.0.0", TOKEN, admits(keys), lambda refusal: readable(refusal, [SHOP]))
    transport = httpx.ASGITransport(outside)
    async with httpx.AsyncClient(transport=transport, base_url="https://relay.test", headers=bearer) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


SCRIPTED = ModelConfig("scripted", think_median_ms=20.0, think_sigma=0.0)


async def test_turns_are_told_as_events_of_the_api(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        await application.join(api)
        await application.microphone.say(question(), "normal")
        await application.heard_of("output_audio_buffer.started")
        await application.microphone.say(question("user_weather"), "barge-in")
        await application.heard_of("output_audio_buffer.cleared")
        await application.heard_of("output_audio_buffer.started", 2)
        await application.heard_of("output_audio_buffer.stopped")
        await application.close()
    assert application.kinds()[:12] == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "output_audio_buffer.started",
    ]
    done = [event["response"]["status"] for event in application.events if event["type"] == "response.done"]
    assert done[0] == "cancelled"
    assert done[-1] == "completed"
    created = [event["response"]["id"] for event in application.events if event["type"] == "response.created"]
    assert application.last("output_audio_buffer.stopped")["response_id"] == created[-1]
    started = next(e for e in application.events if e["type"] == "input_audio_buffer.speech_started")
    committed = next(e for e in application.events if e["type"] == "input_audio_buffer.committed")
    assert started["item_id"] == committed["item_id"]
    words = [event["transcript"] for event in application.events if event["type"].endswith("transcript.done")]
    assert all(len(text.split()) > 3 for text in words)
    assert len(words) == 2
    assert len({event["event_id"] for event in application.events}) == len(application.events)


async def test_client_events_are_obeyed_or_refused(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        await application.join(api)
        session = {"type": "realtime", "instructions": "Be kind.", "audio": {"output": {"voice": "marin"}}}
        application.tell("session.update", session=session)
        await application.heard_of("session.updated")
        updated = application.last("session.updated")["session"]
        assert (updated["instructions"], updated["audio"]["output"]["voice"]) == ("Be kind.", "marin")
        assert updated["audio"]["input"]["turn_detection"]["type"] == "server_vad"

        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        application.tell("conversation.item.create", item=message)
        await application.heard_of("conversation.item.done")
        application.tell("response.create")
        await application.heard_of("output_audio_buffer.started")
        await until(application.hears_voice)
        application.tell("response.create", event_id="too-early")
        await application.heard_of("error")
        assert application.last("error")["error"]["event_id"] == "too-early"
        application.tell("response.cancel")
        await application.heard_of("response.done")
        application.tell("response.cancel")
        application.tell("no.such.event", event_id="mine")
        application.tell("input_audio_buffer.append", audio="")
        application.oai.send("{")
        await application.heard_of("error", 5)
        codes = [event["error"]["code"] for event in application.events if event["type"] == "error"]
        assert codes[:3] == [
            "conversation_already_has_active_response",
            "response_cancel_not_active",
            "unknown_event_type",
        ]
        await application.close()


async def test_client_that_takes_small_messages_only_gets_those_and_its_call_goes_on(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        offer = re.sub(r"a=max-message-size:\d+", "a=max-message-size:300", await application.offer())
        answer = await api.post(CALLS, content=offer, headers=SDP)
        await application.accept(answer.text)
        await application.connected()
        await application.microphone.say(question(), "normal")
        await application.heard_of("output_audio_buffer.started")
        await until(application.hears_voice)
        application.tell("session.update", session={"type": "realtime"})
        application.tell("no.such.event", event_id="mine")
        await application.heard_of("error")
        assert made.transceiver.sessions == 1
        assert "session.created" not in application.kinds()
        assert made.transceiver.counters.messages["not_sent"] >= 2
        await application.close()


async def test_event_as_large_as_browsers_send_is_taken(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        answer = await application.join(api)
        (line,) = [line for line in answer.text.splitlines() if line.startswith("a=max-message-size:")]
        assert int(line.partition(":")[2]) == 256 * 1024
        application.tell("conversation.item.delete", item_id="item_1", padding="x" * 250_000)
        await application.heard_of("conversation.item.deleted")
        await application.close()


async def test_form_with_a_session_is_taken_as_the_api_takes_it(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        session = {"type": "realtime", "model": "gpt-realtime", "instructions": "Sell flowers."}
        form = {"sdp": (None, await application.offer()), "session": (None, json.dumps(session))}
        answer = await application.join(api, files=form)
        assert application.events[0]["session"]["instructions"] == "Sell flowers."
        assert answer.headers["location"].startswith(f"{CALLS}/")
        assert (await api.post(f"{answer.headers['location']}/hangup")).status_code == 200
        await until(lambda: made.transceiver.sessions == 0)
        await application.close()
        for bad in (
            {"session": (None, "{}")},
            {"sdp": (None, "v=0"), "session": (None, "[]")},
            {"sdp": (None, "v=0"), "session": (None, "{")},
            {"sdp": (None, "v=0"), "session": (None, '{"type":"transcription"}')},
        ):
            assert (await api.post(CALLS, files=bad)).status_code == 400
        large = {"sdp": (None, "v=0"), "session": (None, "x" * 200_000)}
        assert (await api.post(CALLS, files=large)).status_code == 413
        broken = await api.post(CALLS, content=b"--x\r\n", headers={"content-type": "multipart/form-data; boundary=x"})
        assert broken.status_code == 400


async def test_ephemeral_key_opens_calls_and_nothing_else(tmp_path: Path) -> None:
    application = Application()
    async with world(tmp_path, model=SCRIPTED) as made, http(made) as api:
        wanted = {"type": "realtime", "instructions": "Sell flowers.", "audio": {"output": {"voice": "marin"}}}
        asked = {"session": {**wanted, "model": "gpt-realtime"}}
        assert (await api.post(SECRETS, json=asked)).status_code == 401
        given = await api.post(SECRETS, json=asked, headers=bearer(TOKEN))
        ClientSecretCreateResponse.model_validate(given.json())
        key = given.json()["value"]
        assert key.startswith("ek_")
        assert "flowers" not in key
        assert given.headers["cache-control"] == "no-store"

        assert (await api.post(SECRETS, json=asked, headers=bearer(key))).status_code == 401
        assert (await api.get("/metrics", headers=bearer(key))).status_code == 401
        changed = key[:-2] + ("A" if key[-2] != "A" else "B") + key[-1]
        for wrong in (changed, "ek_sidetone_", "ek_sidetone_!", "sk-another"):
            refused = await api.post(CALLS, content="v=0", headers={**SDP, **bearer(wrong)})
            assert refused.status_code == 401

        session = {"type": "realtime", "audio": {"input": {"noise_reduction": {"type": "near_field"}}}}
        form = {"sdp": (None, await application.offer()), "session": (None, json.dumps(session))}
        answer = await application.join(api, files=form, headers=bearer(key))
        shown = application.events[0]["session"]
        assert (shown["instructions"], shown["audio"]["output"]["voice"]) == ("Sell flowers.", "marin")
        assert shown["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
        assert (await api.delete(answer.headers["location"])).status_code == 401
        assert (await api.delete(answer.headers["location"], headers=bearer(key))).status_code == 200
        await application.close()


async def test_ephemeral_key_expires(tmp_path: Path) -> None:
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer(TOKEN)) as api:
        given = (await api.post(SECRETS, json={"expires_after": {"anchor": "created_at", "seconds": 30}})).json()
        assert 0 < given["expires_at"] - (await api.post(SECRETS)).json()["expires_at"] + 570 + 10 < 20
        old = EphemeralKeys(b"k" * 32).mint({}, None, 1)
        late = await api.post(CALLS, content="v=0", headers={**SDP, **bearer(old)})
        assert late.status_code == 401
        wrongs: list[Any] = [{"expires_after": {"seconds": 5}}, {"expires_after": 7}, {"session": {"type": "x"}}, []]
        for wrong in wrongs:
            refused = await api.post(SECRETS, json=wrong)
            assert (refused.status_code, "message" in refused.json()["error"]) == (400, True)
        assert (await api.post(SECRETS, json={"session": {"instructions": "x" * 40_000}})).status_code == 413


async def test_pages_of_allowed_origins_may_ask_before_they_call(tmp_path: Path) -> None:
    async with world(tmp_path, model=SCRIPTED) as made, http(made) as api:
        asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        allowed = await api.options(CALLS, headers={"origin": SHOP, **asking})
        assert allowed.headers["access-control-allow-origin"] == SHOP
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        other = await api.options(CALLS, headers={"origin": "https://evil.example", **asking})
        assert "access-control-allow-origin" not in other.headers


async def test_pages_of_allowed_origins_can_read_why_they_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, model=SCRIPTED) as made, http(made, **bearer("wrong")) as api:
        for path in (CALLS, SECRETS, "/whip"):
            refused = await api.post(path, headers={**SDP, "origin": SHOP})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, SHOP)
            assert "bearer token" in refused.text
            other = await api.post(path, headers={**SDP, "origin": "https://evil.example"})
            assert (other.status_code, "access-control-allow-origin" in other.headers) == (401, False)


@pytest.mark.parametrize("name", ["scripted", "echo"])
async def test_push_to_talk_works_with_any_model(tmp_path: Path, name: str) -> None:
    application = Application()
    model = ModelConfig(name, think_median_ms=20.0, think_sigma=0.0)
    async with world(tmp_path, model=model) as made, http(made, **bearer(TOKEN)) as api:
        session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        form = {"sdp": (None, await application.offer()), "session": (None, json.dumps(session))}
        await application.join(api, files=form)
        assert application.events[0]["session"]["audio"]["input"]["turn_detection"] is None
        application.tell("input_audio_buffer.clear")
        await application.heard_of("input_audio_buffer.cleared")
        await application.microphone.say(question(), "normal")
        application.tell("input_audio_buffer.commit")
        await application.heard_of("input_audio_buffer.committed")
        application.tell("response.create")
        await application.heard_of("output_audio_buffer.started")
        await application.heard_of("output_audio_buffer.stopped")
        assert "input_audio_buffer.speech_started" not in application.kinds()
        await application.close()
