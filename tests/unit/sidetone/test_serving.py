import asyncio
import socket

import httpx
import pytest
from fastapi import FastAPI

from sidetone.guard import guarded
from sidetone.serving import bind, serve
from sidetone.settings import SettingsError, load


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/answer")
    def answer() -> int:
        return 42

    @app.get("/healthz")
    def health() -> str:
        return "ok"

    return app


def test_busy_port_is_named_with_its_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} .* in use .*--api-port or SIDETONE_API_PORT"):
            bind("127.0.0.1", port, "api_port")


def test_listening_on_all_addresses_without_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="SIDETONE_TOKEN"):
        guarded(make_app(), "0.0.0.0", None)


async def test_token_is_asked_for_on_everything_but_health() -> None:
    transport = httpx.ASGITransport(guarded(make_app(), "0.0.0.0", "s3cret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/answer")).status_code == 401
        assert (await client.get("/answer", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get("/answer", headers={"Authorization": "Bearer s3cret"})).json() == 42
        assert (await client.get("/healthz")).status_code == 200


async def test_server_ends_when_asked_and_frees_its_port() -> None:
    sock = bind("127.0.0.1", 0, "api_port")
    port = sock.getsockname()[1]
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(make_app(), sock, load(), stop))
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=20)) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/answer")).json() == 42
    stop.set()
    await serving
    bind("127.0.0.1", port, "api_port").close()
