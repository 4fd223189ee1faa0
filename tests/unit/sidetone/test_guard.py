from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, WebSocket

from sidetone.guard import guarded

TOKEN = "s3cret token ü"


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/page")
    def page() -> str:
        return "for your eyes"

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()

    return app


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(guarded(make_app(), "0.0.0.0", TOKEN))
    headers = {"Accept": "text/html,application/xhtml+xml"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


async def test_browser_logs_in_and_comes_where_it_wanted_to_go(browser: httpx.AsyncClient) -> None:
    refused = await browser.get("/page?region=eu-west&from=now-1h")
    assert refused.status_code == 401
    assert 'action="/login?next=%2Fpage%3Fregion%3Deu-west%26from%3Dnow-1h"' in refused.text
    answer = await browser.post("/login?next=%2Fpage%3Fregion%3Deu-west%26from%3Dnow-1h", data={"token": TOKEN})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/page?region=eu-west&from=now-1h"
    assert (await browser.get(answer.headers["location"])).json() == "for your eyes"


async def test_cookie_is_out_of_reach_of_scripts_and_other_sites_and_is_not_the_token(
    browser: httpx.AsyncClient,
) -> None:
    answer = await browser.post("/login", data={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert "s3cret" not in cookie
    secure = await browser.post("https://test/login", data={"token": TOKEN})
    assert secure.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "given", ["", "wrong", "s3cret", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")]
)
async def test_wrong_token_gets_the_form_again_and_no_cookie(browser: httpx.AsyncClient, given: str) -> None:
    answer = await browser.post("/login?next=/page", data={"token": given})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That is not the token" in answer.text
    assert (await browser.get("/page")).status_code == 401


@pytest.mark.parametrize("cookie", ["sidetone=", "sidetone=0", "other=1", '"', "sidetone=\xfc"])
async def test_forged_cookie_opens_nothing(browser: httpx.AsyncClient, cookie: str) -> None:
    answer = await browser.get("/page", headers=[(b"cookie", cookie.encode("latin-1"))])
    assert answer.status_code == 401


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "page", "/a\nb"])
async def test_log_in_leads_to_no_other_host(browser: httpx.AsyncClient, target: str) -> None:
    answer = await browser.post("/login", params={"next": target}, data={"token": TOKEN})
    assert answer.headers["location"] == "/"


async def test_form_shows_what_was_asked_for_as_text(browser: httpx.AsyncClient) -> None:
    answer = await browser.get('/"><script>alert(1)</script>')
    assert answer.status_code == 401
    assert "<script>" not in answer.text


async def test_endless_form_is_not_read_to_its_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"token=" + 1000 * b"x"

    sent: list[dict[str, object]] = []
    source = endless()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": await anext(source), "more_body": True}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/login", "headers": [], "query_string": b""}
    await guarded(make_app(), "0.0.0.0", TOKEN)(scope, receive, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    ("headers", "opened"), [([], False), ([(b"authorization", b"Bearer " + TOKEN.encode())], True)]
)
async def test_web_socket_needs_the_token_too(headers: list[tuple[bytes, bytes]], opened: bool) -> None:
    sent: list[str] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/live", "headers": headers, "query_string": b"", "subprotocols": []}
    await guarded(make_app(), "0.0.0.0", TOKEN)(scope, receive, send)
    assert ("websocket.accept" in sent) is opened
    assert opened or sent == ["websocket.close"]


async def test_on_loopback_nobody_is_asked() -> None:
    transport = httpx.ASGITransport(guarded(make_app(), "127.0.0.1", None))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/page")).status_code == 200
