"""ClickHouse's users before the embedded store, which has none: they log in here as `deploy/clickhouse/users.xml` says.

It takes the place of the server's own log-in only. That the server enforces the grants and limits of that file can be
seen on a server only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_HOP_BY_HOP = {"transfer-encoding", "connection", "date", "server"}


def users(path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the passwords of the users that log in over the network, by name."""
    root = ET.parse(path).getroot()
    found = {}
    for user in root.iterfind("./users/*"):
        password = user.find("password")
        if password is not None:
            found[user.tag] = environment[password.attrib["from_env"]]
    return found


@asynccontextmanager
async def gate(port: int, store: str, known: Mapping[str, str]) -> AsyncIterator[Counter[str]]:
    """Serve on a loopback port what `store` answers, to known users; gives the requests of each."""
    seen: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=store, timeout=120) as client:

        async def forward(request: Request) -> Response:
            if request.url.path != "/ping":
                _, _, credentials = request.headers.get("authorization", "").partition(" ")
                user, _, password = base64.b64decode(credentials).decode().partition(":")
                if not password or known.get(user) != password:
                    refused = f"Code: 516. DB::Exception: {user}: Authentication failed"
                    return PlainTextResponse(refused, 403, {"X-ClickHouse-Exception-Code": "516"})
                seen[user] += 1
            headers = {k: v for k, v in request.headers.items() if k not in {"host", "authorization", *_HOP_BY_HOP}}
            path = httpx.URL(path=request.url.path, query=request.url.query.encode())
            asked = client.build_request(request.method, path, content=await request.body(), headers=headers)
            answer = await client.send(asked, stream=True)
            try:
                body = b"".join([part async for part in answer.aiter_raw()])
            finally:
                await answer.aclose()
            kept = {k: v for k, v in answer.headers.items() if k not in _HOP_BY_HOP}
            return Response(body, answer.status_code, kept)

        app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # they are pytest's
        serving = asyncio.create_task(server.serve())
        try:
            yield seen
        finally:
            server.should_exit = True
            await serving
