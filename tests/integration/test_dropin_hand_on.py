"""A caller's own key is exchanged at the model's server, and only where that is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from relay.app import create_app
from relay.ephemeral import EphemeralKeys
from relay.models import ModelConfig, OpenAIConfig
from tests.integration.test_dropin_browser import served
from tests.integration.transceiver_tools import Client, world

TOKEN = "the-installation's-token"
SECRETS = "/v1/realtime/client_secrets"
KEYS = EphemeralKeys(b"k" * 32)


def upstream(asked: list[tuple[str | None, dict[str, Any]]]) -> FastAPI:
    """Return the model's own endpoint for ephemeral keys; it knows one key."""
    app = FastAPI()

    @app.post(SECRETS)
    async def create(request: Request) -> dict[str, Any]:
        asked.append((request.headers.get("authorization"), await request.json()))
        if asked[-1][0] != "Bearer sk-good":
            raise HTTPException(401)
        return {"value": "ek_upstream", "expires_at": 2_000_000_000, "session": {"type": "realtime"}}

    return app


@pytest.mark.parametrize("hand_on", [True, False])
async def test_keys_are_handed_on_as_set(tmp_path: Path, hand_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDETONE_OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if not hand_on:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    asked: list[tuple[str | None, dict[str, Any]]] = []
    async with served(upstream(asked)) as server:
        url = f"{server.replace('http', 'ws')}/v1/realtime"
        model = ModelConfig("openai_realtime", openai=OpenAIConfig(url=url, hand_on=hand_on, model="m"))
        async with world(tmp_path, model=model) as made:
            app = create_app(made.transceiver, keys=KEYS, own_token=TOKEN)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="https://relay.test") as api:
                session = {"session": {"type": "realtime", "instructions": "Be kind."}}
                good = await api.post(SECRETS, json=session, headers={"authorization": "Bearer sk-good"})
                assert good.status_code == 200
                assert "ek_upstream" not in good.text
                opened = KEYS.open(good.json()["value"])
                assert opened.session["instructions"] == "Be kind."
                if not hand_on:
                    assert (opened.upstream, asked) == (None, [])
                    return
                assert opened.upstream == "ek_upstream"
                assert asked[0][1]["session"] == {"type": "realtime", "model": "m", "instructions": "Be kind."}
                bad = await api.post(SECRETS, json=session, headers={"authorization": "Bearer sk-bad"})
                assert (bad.status_code, "sk-bad" in bad.text) == (401, False)
                ours = await api.post(SECRETS, json=session, headers={"authorization": f"Bearer {TOKEN}"})
                assert ours.status_code == 401
                assert all(TOKEN not in str(key) for key, _ in asked)
                client = Client()
                sdp = {"content-type": "application/sdp"}
                call = await api.post("/v1/realtime/calls", content=await client.offer(), headers=sdp)
                assert (call.status_code, "send it as a bearer token" in call.text) == (401, True)
                await client.close()
