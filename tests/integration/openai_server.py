"""A server that speaks OpenAI's Realtime protocol, written from the published schema, and misbehaves when told to.

Every event that it gets and every event that it sends is checked against the types of the `openai` package.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter, ValidationError
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

CLIENT: TypeAdapter[BaseModel] = TypeAdapter(RealtimeClientEvent)
SERVER: TypeAdapter[BaseModel] = TypeAdapter(RealtimeServerEvent)
RATE = 24_000
CHUNK_MS = 200

_SILENT = logging.getLogger("tests.openai_server")
_SILENT.setLevel(logging.CRITICAL)  # it would have the key that tests look for in the logs
PCM = {"type": "audio/pcm", "rate": RATE}


@dataclass
class Faults:
    """What goes wrong.

    Attributes:
        refuse: HTTP statuses of the next handshakes, one each; 0 lets one through.
        think_s: before the first audio.
        cut_after: audio events after which the connection is cut, once.
        junk: whether every event is followed by things that are none.
        fail: what the next response fails with.
        incomplete: why the next response breaks off at its end.
        busy: error responses to the next requests for a response.
        exhausted_s: the next response uses the rate limit up for so long.

    """

    refuse: list[int] = field(default_factory=list)
    think_s: float = 0.0
    cut_after: int | None = None
    junk: bool = False
    fail: str | None = None
    incomplete: str | None = None
    busy: int = 0
    exhausted_s: float | None = None


class RealtimeServer:
    """What all connections have in common: what was heard, and what to do wrong."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.answer_ms = 2_000
        self.tools: list[str] = []
        self.remote: list[str] = []  # tools of a remote server, which it calls itself once the response is done
        self.partials: list[str] = []  # what is transcribed while the user speaks, one with each 200 ms of voice
        self.keys: list[str | None] = []
        self.connections: list[Connection] = []
        self.received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.invalid: list[str] = []
        self.url = ""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.received if event["type"] == kind]

    def handshake(self, _connection: ServerConnection, request: Request) -> Response | None:
        status = self.faults.refuse.pop(0) if self.faults.refuse else 0
        self.keys.append(request.headers.get("authorization"))
        if not status:
            return None
        return Response(status, HTTPStatus(status).phrase, Headers({"retry-after": "0.1", "content-length": "0"}))

    async def hold(self, socket: ServerConnection) -> None:
        connection = Connection(self, socket)
        self.connections.append(connection)
        await connection.run()


class Connection:
    """One session of the API."""

    def __init__(self, server: RealtimeServer, socket: ServerConnection) -> None:
        self.server = server
        self.socket = socket
        self.numbers = itertools.count(1)
        self.session: dict[str, Any] = {
            "type": "realtime",
            "model": "gpt-realtime",
            "output_modalities": ["audio"],
            "audio": {"input": {"format": PCM, "turn_detection": {"type": "server_vad"}}, "output": {"format": PCM}},
        }
        self.heard_ms = 0.0
        self.uncommitted_ms = 0.0
        self.speech: str | None = None
        self.silent_ms = 0.0
        self.loud_ms = 0.0
        self.spoken: str | None = None  # item that is transcribed while it is said
        self.items: dict[str, float] = {}  # id -> ms of audio
        self.truncated: dict[str, int] = {}
        self.deleted: list[str] = []
        self.response: asyncio.Task[None] | None = None
        self.response_id: str | None = None

    def id(self, kind: str) -> str:
        return f"{kind}_{len(self.server.connections)}_{next(self.numbers)}"

    async def run(self) -> None:
        await self.tell("session.created", session=self.session)
        try:
            async for message in self.socket:
                event = json.loads(message)
                self.server.received.append(event)
                try:
                    if extra := CLIENT.validate_python(event).model_extra:
                        self.server.invalid.append(f"unknown fields {extra}")
                except ValidationError as error:
                    self.server.invalid.append(str(error))
                await self.take(event)
        except ConnectionClosed:
            pass
        finally:
            await self.stop("cancelled", tell=False)

    async def tell(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self.id("event"), **fields}
        SERVER.validate_python(event)
        self.server.sent.append(event)
        with suppress(ConnectionClosed):
            await self.socket.send(json.dumps(event))
            if self.server.faults.junk:
                for junk in ("{", "[1]", '{"type": 5}', '{"type": "response.created"}', b"\0\xff"):
                    await self.socket.send(junk)
                await self.socket.send('{"type":"response.output_audio.delta","response_id":"x","delta":"!"}')
                for seconds in ("1e999", "1" + "0" * 400, "-1e999"):
                    limit = f'{{"name":"requests","remaining":0,"reset_seconds":{seconds}}}'
                    await self.socket.send(f'{{"type":"rate_limits.updated","rate_limits":[{limit}]}}')

    async def error(self, code: str, given: dict[str, Any]) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": f"it is {code}", "param": None}
        await self.tell("error", error={**error, "event_id": given.get("event_id")})

    async def take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update" if "no such voice" in json.dumps(event):
                await self.error("invalid_value", event)
            case "session.update":
                for name, value in event["session"].items():
                    self.session[name] = value
                await self.tell("session.updated", session=self.session)
            case "input_audio_buffer.append":
                await self.hear(np.frombuffer(base64.b64decode(event["audio"]), "<i2"))
            case "input_audio_buffer.commit":
                if self.uncommitted_ms < 100:
                    await self.error("input_audio_buffer_commit_empty", event)
                else:
                    self.speech = None
                    await self.commit(self.spoken or self.id("item"))
            case "response.create":
                await self.create(event)
            case "response.cancel":
                if self.response_id is None:
                    await self.error("response_cancel_not_active", event)
                await self.stop("cancelled")
            case _:
                await self.take_item(event)

    async def take_item(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "input_audio_buffer.clear":
                self.uncommitted_ms = 0.0
                await self.tell("input_audio_buffer.cleared")
            case "conversation.item.create":
                await self.add({"id": self.id("item"), "object": "realtime.item", **event["item"]})
            case "conversation.item.truncate":
                if event["audio_end_ms"] > self.items.get(event["item_id"], -1):
                    await self.error("invalid_value", event)
                else:
                    self.truncated[event["item_id"]] = event["audio_end_ms"]
                    known = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                    await self.tell("conversation.item.truncated", **known)
            case "conversation.item.delete":
                self.deleted.append(event["item_id"])
                await self.tell("conversation.item.deleted", item_id=event["item_id"])
            case kind:
                await self.error("unknown_event_type", {**event, "kind": kind})

    async def hear(self, pcm: np.ndarray[Any, Any]) -> None:
        ms = 1000 * pcm.size / RATE
        self.heard_ms += ms
        self.uncommitted_ms += ms
        loud = float(np.sqrt(np.mean(pcm.astype(float) ** 2))) > 300
        if loud:
            await self.transcribe(ms)
        detection = self.session["audio"]["input"].get("turn_detection")
        if detection is None:
            return
        self.silent_ms = 0 if loud else self.silent_ms + ms
        if loud and self.speech is None:
            self.speech = self.id("item")
            start = max(0, round(self.heard_ms - ms - detection.get("prefix_padding_ms", 300)))
            await self.tell("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self.speech)
        elif self.speech is not None and self.silent_ms >= detection.get("silence_duration_ms", 500):
            item, self.speech = self.speech, None
            await self.tell("input_audio_buffer.speech_stopped", audio_end_ms=round(self.heard_ms), item_id=item)
            await self.commit(item)

    async def transcribe(self, ms: float) -> None:
        """Tell words as they come, as a transcription model that streams does."""
        self.loud_ms += ms
        if self.server.partials and self.loud_ms >= 200:
            self.loud_ms = 0.0
            self.spoken = self.spoken or self.speech or self.id("item")
            kind = "conversation.item.input_audio_transcription.delta"
            await self.tell(kind, item_id=self.spoken, content_index=0, delta=self.server.partials.pop(0))

    async def commit(self, item_id: str) -> None:
        self.uncommitted_ms = 0.0
        self.spoken = None
        await self.tell("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        content = [{"type": "input_audio", "transcript": None}]
        await self.add(
            {"id": item_id, "object": "realtime.item", "type": "message", "role": "user", "content": content}
        )
        if (self.session["audio"]["input"].get("transcription") or {}).get("model"):
            kind = "conversation.item.input_audio_transcription"
            where = {"item_id": item_id, "content_index": 0}
            for words in ("when do ", "you open"):
                await self.tell(f"{kind}.delta", **where, delta=words)
            usage = {"type": "duration", "seconds": 1.0}
            await self.tell(f"{kind}.completed", **where, transcript="when do you open", usage=usage)

    async def add(self, item: dict[str, Any]) -> None:
        await self.tell("conversation.item.added", item=item, previous_item_id=None)
        await self.tell("conversation.item.done", item=item, previous_item_id=None)

    async def create(self, event: dict[str, Any]) -> None:
        if self.response_id is not None or self.server.faults.busy:
            self.server.faults.busy = max(0, self.server.faults.busy - 1)
            return await self.error("conversation_already_has_active_response", event)
        self.response_id = self.id("resp")
        metadata = (event.get("response") or {}).get("metadata")
        self.response = asyncio.create_task(self.respond(self.response_id, metadata))
        return None

    def resource(self, response_id: str, status: str, **more: Any) -> dict[str, Any]:
        return {
            "object": "realtime.response",
            "id": response_id,
            "status": status,
            "conversation_id": "conv_1",
            "output": [],
            **more,
        }

    async def respond(self, response_id: str, metadata: dict[str, str] | None) -> None:
        faults = self.server.faults
        await self.tell("response.created", response=self.resource(response_id, "in_progress", metadata=metadata))
        if faults.exhausted_s is not None:
            limit = {"name": "requests", "limit": 1, "remaining": 0, "reset_seconds": faults.exhausted_s}
            faults.exhausted_s = None
            await self.tell("rate_limits.updated", rate_limits=[limit])
        await asyncio.sleep(faults.think_s)
        if faults.fail is not None:
            error, faults.fail = {"type": "server_error", "code": "overloaded", "message": faults.fail}, None
            return await self.stop("failed", status_details={"type": "failed", "error": error}, cancel=False)
        if self.server.tools:
            await self.call(response_id, self.server.tools.pop(0))
        elif self.server.remote:
            return await self.call_remote(response_id, self.server.remote.pop(0))
        else:
            await self.speak(response_id)
        if faults.incomplete is not None:
            details, faults.incomplete = {"type": "incomplete", "reason": faults.incomplete}, None
            return await self.stop("incomplete", status_details=details, cancel=False)
        return await self.stop("completed", cancel=False)

    async def call_remote(self, response_id: str, name: str) -> None:
        where = {"response_id": response_id, "output_index": 0}
        item = {"id": self.id("mcp"), "type": "mcp_call", "name": name, "server_label": "shop", "arguments": ""}
        await self.tell("response.output_item.added", **where, item=item)
        await self.tell("response.mcp_call_arguments.done", **where, item_id=item["id"], arguments="{}")
        await self.tell("response.output_item.done", **where, item={**item, "arguments": "{}"})
        await self.stop("completed", cancel=False)
        for step in ("in_progress", "completed"):
            await self.tell(f"response.mcp_call.{step}", item_id=item["id"], output_index=0)

    async def call(self, response_id: str, name: str) -> None:
        where = {"response_id": response_id, "output_index": 0}
        call = {"item_id": self.id("item"), "call_id": self.id("call")}
        item = {"id": call["item_id"], "type": "function_call", "call_id": call["call_id"], "name": name}
        added = {**item, "arguments": "", "status": "in_progress"}
        await self.tell("response.output_item.added", **where, item=added)
        await self.tell("conversation.item.added", item=added, previous_item_id=None)
        await self.tell("response.function_call_arguments.delta", **where, **call, delta='{"day":"Monday"}')
        await self.tell(
            "response.function_call_arguments.done", **where, **call, name=name, arguments='{"day":"Monday"}'
        )
        done = {**item, "arguments": '{"day":"Monday"}', "status": "completed"}
        await self.tell("response.output_item.done", **where, item=done)

    async def speak(self, response_id: str) -> None:
        faults = self.server.faults
        item_id = self.id("item")
        self.items[item_id] = 0.0
        where = {"response_id": response_id, "output_index": 0}
        part = {**where, "item_id": item_id, "content_index": 0}
        item = {"id": item_id, "object": "realtime.item", "type": "message", "role": "assistant", "content": []}
        await self.tell("response.output_item.added", **where, item={**item, "status": "in_progress"})
        await self.tell("conversation.item.added", item={**item, "status": "in_progress"}, previous_item_id=None)
        await self.tell("response.content_part.added", **part, part={"type": "audio", "transcript": ""})
        at = np.arange(RATE * CHUNK_MS // 1000)
        chunk = (8000 * np.sin(2 * np.pi * 200 * at / RATE)).astype("<i2").tobytes()
        for number in range(self.server.answer_ms // CHUNK_MS):
            if faults.cut_after is not None and number >= faults.cut_after:
                faults.cut_after = None
                self.socket.transport.abort()
                return
            await self.tell("response.output_audio_transcript.delta", **part, delta=f"word{number} ")
            self.items[item_id] += CHUNK_MS
            await self.tell("response.output_audio.delta", **part, delta=base64.b64encode(chunk).decode())
        await self.tell("response.output_audio.done", **part)
        await self.tell("response.output_audio_transcript.done", **part, transcript="all the words")
        await self.tell("response.content_part.done", **part, part={"type": "audio", "transcript": "all the words"})
        await self.tell("response.output_item.done", **where, item={**item, "status": "completed"})
        await self.tell("conversation.item.done", item={**item, "status": "completed"}, previous_item_id=None)

    async def stop(self, status: str, *, tell: bool = True, cancel: bool = True, **more: Any) -> None:
        task, self.response = self.response, None
        if cancel and task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self.response_id is not None:
            response_id, self.response_id = self.response_id, None
            if tell:
                await self.tell("response.done", response=self.resource(response_id, status, **more))


@asynccontextmanager
async def realtime_server() -> AsyncIterator[RealtimeServer]:
    """Run one on loopback."""
    made = RealtimeServer()
    async with serve(made.hold, "127.0.0.1", 0, process_request=made.handshake, logger=_SILENT) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        made.url = f"ws://127.0.0.1:{port}/v1/realtime"
        yield made
    assert made.invalid == []
