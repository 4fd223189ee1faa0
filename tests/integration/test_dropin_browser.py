"""A page written for OpenAI's WebRTC endpoint, of another origin, in Chromium: it works with only the URL changed."""

from __future__ import annotations

import asyncio
import contextlib
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from openai.types.realtime import RealtimeServerEvent
from playwright.async_api import async_playwright
from pydantic import BaseModel, TypeAdapter

from relay.app import create_app
from relay.ephemeral import EphemeralKeys
from relay.models import ModelConfig, OpenAIConfig
from relay.speech import load
from sidetone.serving import bind
from tests.integration.browser_tools import ARGUMENTS, executable
from tests.integration.openai_server import realtime_server
from tests.integration.transceiver_tools import question, until, world

PAGE = Path(__file__).with_name("dropin_page.html")
SERVER: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)
RATE = 48_000

HEARD = """async () => {
    const stats = [...(await window.connection.getStats()).values()];
    const inbound = stats.find((one) => one.type === 'inbound-rtp' && one.kind === 'audio');
    return inbound !== undefined && inbound.totalAudioEnergy > 0.005;
}"""
"""True once the browser's own receiver has played a voice, which silence never amounts to."""


def write_question(path: Path) -> None:
    """Write a question and then silence, which Chromium plays in a loop."""
    pcm = np.concatenate([np.zeros(RATE, np.int16), load("user_hours").pcm, np.zeros(9 * RATE, np.int16)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())


@asynccontextmanager
async def served(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """Serve an app on loopback."""
    sock = bind("127.0.0.1", port, "port")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def shop(relay: list[str]) -> FastAPI:
    """Return an application's own server: its page, and ephemeral keys for it."""
    app = FastAPI()

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.get("/token")
    async def token() -> Any:
        async with httpx.AsyncClient() as client:
            wanted = {"session": {"type": "realtime", "model": "gpt-realtime", "audio": {"output": {"voice": "marin"}}}}
            return (await client.post(f"{relay[0]}/v1/realtime/client_secrets", json=wanted)).json()

    return app


@pytest.mark.parametrize("name", ["scripted", "openai_realtime"])
async def test_page_talks_with_the_agent(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_OPENAI_API_KEY", "sk-of-nobody")
    write_question(tmp_path / "question.wav")
    microphone = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'question.wav'}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    question()  # decoded before the browser competes for the processor
    relay: list[str] = []
    async with realtime_server() as server, served(shop(relay)) as page_url:
        model = ModelConfig(name, think_median_ms=20.0, think_sigma=0.0, openai=OpenAIConfig(url=server.url))
        async with world(tmp_path, model=model) as made:
            app = create_app(made.transceiver, allowed_origins=[page_url], keys=EphemeralKeys(b"k" * 32))
            async with served(app) as relay_url, async_playwright() as playwright:
                relay.append(relay_url)
                browser = await playwright.chromium.launch(executable_path=executable(), args=[*ARGUMENTS, *microphone])
                page = await browser.new_page()
                errors: list[str] = []
                page.on("pageerror", lambda error: errors.append(str(error)))
                await page.goto(f"{page_url}/?base={relay_url}")
                await page.locator("#start").click()
                await page.locator("li", has_text="output_audio_buffer.stopped").first.wait_for(timeout=60_000)
                await page.wait_for_function(HEARD, timeout=20_000)
                seen: list[dict[str, Any]] = await page.evaluate("window.seen")
                location = await page.evaluate("window.callLocation")
                assert location.startswith("/v1/realtime/calls/")
                await page.evaluate("window.connection.close()")
                await until(lambda: made.transceiver.sessions == 0)
                await browser.close()
        assert errors == []
    kinds = [event["type"] for event in seen]
    for event in seen:
        SERVER.validate_python(event)
    assert kinds[0] == "session.created"
    updated = next(event for event in seen if event["type"] == "session.updated" and "flowers" in str(event))
    assert updated["session"]["audio"]["output"]["voice"] == "marin"
    story = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.committed",
        "response.created",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
    ]
    assert [kind for kind in dict.fromkeys(kinds) if kind in story] == story
