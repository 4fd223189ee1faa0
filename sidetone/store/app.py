"""The ASGI application: ClickHouse's HTTP interface over `Job`s that run in threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from sidetone.store.engine import Counts, Engine, quote
from sidetone.store.errors import StoreError
from sidetone.store.job import MAX_BODY_BYTES, Job
from sidetone.store.pipe import Pipe
from sidetone.store.reply import AbortedResponseError, Message, Reply, Send
from sidetone.store.request import Request, parse_request
from sidetone.store.sessions import Session, Sessions
from sidetone.store.spool import Spool

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Message]]

WORKERS = 16
MAX_RUNNING = 256
RECEIVE_TIMEOUT_S = 30.0  # ClickHouse's http_receive_timeout
# ClickHouse holds this much back before it sends headers, so that an early error still gets its status (buffer_size).
_HOLD_BYTES = 1 << 20
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class StoreApp:
    """Serves one engine; every method runs on one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions = Sessions()
        self._workers = ThreadPoolExecutor(WORKERS, "store-query")
        self._running: dict[str, Job] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        reply = Reply(send, self._engine.version, self._engine.timezone, self._engine.host_name)
        with contextlib.suppress(AbortedResponseError, ClientGoneError):
            try:
                _same_machine(headers)
                if await _fixed(scope, reply):
                    return
                request = reply.request = parse_request(scope["method"], scope["query_string"], headers)
                with Spool(self._engine.data_dir) as body:
                    await _receive_body(receive, headers, body)
                    await self._serve(request, body, receive, reply)
            except StoreError as error:
                await reply.error(error)

    async def kill_all(self, within_s: float) -> bool:
        """Stop what runs, inserts included; False if something would not end in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._running and loop.time() < deadline:
            await asyncio.to_thread(self._engine.kill, "1")
            await asyncio.sleep(0.05)
        return not self._running

    async def stop(self, within_s: float) -> bool:
        """Stop what still runs and close every client of the engine; False if something would not end in time."""
        if not await self.kill_all(within_s):
            log.error("%d queries would not stop", len(self._running))
            return False
        for connection in self._sessions.drain():
            await asyncio.to_thread(connection.close)
        self._workers.shutdown()
        return True

    async def _serve(self, request: Request, body: Spool, receive: Receive, reply: Reply) -> None:
        if request.query_id in self._running:
            raise StoreError(
                216, f"Query with id = {request.query_id} is already running.", "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING"
            )
        if len(self._running) >= MAX_RUNNING:
            raise StoreError(202, f"Too many simultaneous queries. Maximum: {MAX_RUNNING}.")
        async with self._session(request) as session:
            with Pipe() as pipe, Spool(self._engine.data_dir) as held:
                job = Job(self._engine, request, body, pipe.hand_over())
                self._running[request.query_id] = job
                loop = asyncio.get_running_loop()
                work = loop.run_in_executor(self._workers, job.run, session, self._sessions.may_hold_connection)
                watch = asyncio.create_task(self._stop_if_gone(receive, job))
                try:
                    await _respond(pipe, work, job, reply, held)
                finally:
                    watch.cancel()
                    await self._settle(pipe, work, job)
                    del self._running[request.query_id]

    async def _settle(self, pipe: Pipe, work: asyncio.Future[Counts], job: Job) -> None:
        """Wait for a job whose response failed: its files must outlive it."""
        if work.done():
            return
        if not job.writes:
            await self._kill(job)
        while await pipe.read():
            pass
        await asyncio.wait([work])

    async def _stop_if_gone(self, receive: Receive, job: Job) -> None:
        """Stop a query whose client has gone; what writes is let to finish."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if not job.writes:
            await self._kill(job)

    async def _kill(self, job: Job) -> None:
        await asyncio.to_thread(self._engine.kill, f"position(query, {quote(f'/* {job.marker} */')}) > 0")

    @contextlib.asynccontextmanager
    async def _session(self, request: Request) -> AsyncIterator[Session | None]:
        if request.session_id is None:
            yield None
            return
        for expired in self._sessions.sweep():
            await asyncio.to_thread(expired.close)
        session = self._sessions.acquire(
            request.session_id, request.session_timeout_s, must_exist=request.session_check
        )
        try:
            yield session
        finally:
            self._sessions.release(session, request.session_timeout_s)
            if request.close_session and (connection := self._sessions.forget(request.session_id)) is not None:
                await asyncio.to_thread(connection.close)


async def _respond(pipe: Pipe, work: asyncio.Future[Counts], job: Job, reply: Reply, held: Spool) -> None:
    """Send what comes through the pipe; hold it back while its headers may still change."""
    wait = reply.request is not None and reply.request.wait
    while chunk := await pipe.read():
        if reply.started:
            await reply.more(chunk)
            continue
        if held.blocking:
            await asyncio.to_thread(held.write, chunk)
        else:
            held.write(chunk)
        if not wait and held.size > _HOLD_BYTES:
            await reply.rows(held, job.format, None)
    try:
        counts = await work
    except StoreError:
        raise
    except Exception as error:
        log.exception("a request failed in an unforeseen way")
        raise StoreError(1002, f"{type(error).__name__}: {error}. The store's log has the details.") from error
    if reply.started:
        await reply.end()
    else:
        await reply.result(held, job.format, counts)


async def _receive_body(receive: Receive, headers: dict[str, str], body: Spool) -> None:
    too_large = StoreError(307, f"A request may have {MAX_BODY_BYTES >> 20} MiB at most; split the insert.")
    if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise too_large
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), RECEIVE_TIMEOUT_S)
        except TimeoutError:
            raise StoreError(209, f"No more of the request came for {RECEIVE_TIMEOUT_S:.0f} s.") from None
        if message["type"] == "http.disconnect":
            # Half an insert is no insert.
            raise ClientGoneError
        more = message.get("more_body", False)
        chunk = message.get("body", b"")
        if body.size + len(chunk) > MAX_BODY_BYTES:
            raise too_large
        if body.blocking:
            await asyncio.to_thread(body.write, chunk)
        else:
            body.write(chunk)


async def _fixed(scope: Message, reply: Reply) -> bool:
    """Answer what needs no engine: it must answer while every worker is busy."""
    path = scope["path"]
    if path in {"/ping", "/replicas_status"} or (
        path == "/" and scope["method"] == "GET" and not scope["query_string"]
    ):
        await reply.whole(200, b"Ok.\n", {"content-type": "text/html; charset=UTF-8"})
    elif path != "/":
        text = f"There is no handle {path}\n\nUse / for queries, /ping for health checks.\n"
        await reply.whole(404, text.encode(), {"content-type": "text/plain; charset=UTF-8"})
    else:
        return False
    return True


def _same_machine(headers: dict[str, str]) -> None:
    """Refuse what a web page of another site could make a browser send: the store has no password."""
    host = headers.get("host", "localhost").rsplit("@")[-1]
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    origin = headers.get("origin", "")
    foreign = origin and origin.partition("://")[2].rsplit(":", 1)[0].strip("[]") not in _LOOPBACK_NAMES
    if name.strip("[]") not in _LOOPBACK_NAMES or foreign:
        raise StoreError(
            497,
            f"Host {host!r} or Origin {origin!r} is not this machine: the store serves loopback only.",
            "ACCESS_DENIED",
        )
