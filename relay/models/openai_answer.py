"""One answer of the Realtime API: its events in, tokens and audio out, and what of it was heard."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from relay.models.protocol import Audio, Event, FirstToken, ModelError, ModelOutput, ToolEnded, ToolStarted, Transcript
from relay.models.resample import TAPS, Doubler

RATE: Final = 24_000
ANSWER_S_MAX: Final = 600
"""Longer ones are cut: nobody listens to ten minutes, and a server must not fill our memory."""

FIRST_S: Final = 20.0
"""Given to the server between one event of an answer and the next."""

TOOL_S: Final = 30.0
"""Given to the application to answer a tool call and to ask the model to go on."""

ACCEPT_S: Final = 5.0
CALLS_MAX: Final = 64
ITEMS_MAX: Final = 64

_END: Final = object()


@dataclass(slots=True)
class _Item:
    """Where an item of audio lies in the answer, in samples."""

    id: str
    start: int
    content_index: int = 0
    samples: int = 0
    gone: bool = False


class Answer:
    """What is known of one answer, which may span several responses when tools are used.

    Attributes:
        key: names it in what we send.
        turn_id: the turn that it answers.
        response_id: of its present response.
        asked: whether the server was asked for it, by whomever.
        over: whether nobody reads it any more.
        waits: whether a tool was called, so that another response belongs to it.
        heard_ms: how much of it was heard, if it was interrupted.

    """

    def __init__(self, key: str, turn_id: int) -> None:
        self.key = key
        self.turn_id = turn_id
        self.response_id: str | None = None
        self.asked = False
        self.over = False
        self.waits = False
        self.heard_ms: float | None = None
        self._outputs: deque[ModelOutput | ModelError | object] = deque()
        self._more = asyncio.Event()
        self._accepted: asyncio.Future[bool] | None = None
        self._items: list[_Item] = []
        self._samples = 0
        self._calls: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._doubler = Doubler()

    # Read by the model's stream.

    async def accepted(self) -> bool:
        """Wait for the server's word on our request; False if it is busy.

        Raises:
            ModelError: it refused, or said nothing.

        """
        self._accepted = asyncio.get_running_loop().create_future()
        if self.response_id is not None:
            return True
        try:
            async with asyncio.timeout(FIRST_S):
                return await self._accepted
        except TimeoutError:
            raise ModelError(f"the model did not begin to answer within {FIRST_S:.0f} s") from None
        finally:
            self._accepted = None

    async def outputs(self) -> AsyncGenerator[ModelOutput]:
        """Yield what the answer brings until it is complete.

        Raises:
            ModelError: it failed, or nothing more came.

        """
        while True:
            if not self._outputs:
                self._more.clear()
                limit_s = TOOL_S if self.waits else FIRST_S
                try:
                    async with asyncio.timeout(limit_s):
                        await self._more.wait()
                except TimeoutError:
                    whose = "the application's tool" if self.waits else "the model"
                    raise ModelError(f"{whose} said nothing for {limit_s:.0f} s") from None
            output = self._outputs.popleft()
            if output is _END:
                self.over = True
                return
            if isinstance(output, ModelError):
                raise output
            yield output  # type: ignore[misc]

    # Written by the model's connection.

    def begin(self, response_id: str) -> None:
        """Take a response as this answer's."""
        self.response_id = response_id
        self.waits = False
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(True)

    def refuse(self, message: str | None) -> None:
        """Learn that our request was refused; None: only because the server is busy."""
        if self._accepted is not None and not self._accepted.done():
            if message is None:
                self._accepted.set_result(False)
            else:
                self._accepted.set_exception(ModelError(f"the model refuses to answer: {message}"))
        elif message is not None and self.response_id is None:
            self.fail(f"the model refuses to answer: {message}")

    def fail(self, message: str) -> None:
        """End the answer with an error."""
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_exception(ModelError(message))
        self._put(ModelError(message))

    def take(self, kind: str, event: dict[str, Any]) -> None:
        """Take an event of its response."""
        match kind:
            case "response.output_item.added":
                item = event["item"]
                if item.get("type") == "function_call" and len(self._names) < CALLS_MAX:
                    self._names[str(item.get("call_id"))] = str(item.get("name"))
                elif item.get("type") == "mcp_call":
                    self._call(str(item["id"]), str(item.get("name")))
                elif item.get("type") == "message":
                    self._item(str(item["id"]))
                    self.waits = self.waits and bool(self._calls)  # else it has its results, and goes on by itself
                self._put(FirstToken())
            case "response.output_audio.delta":
                self._audio(event)
            case "response.output_text.delta" | "response.function_call_arguments.delta":
                self._put(FirstToken())  # not heard, but the model is at it
            case "response.output_audio_transcript.delta":
                self._put(Transcript(str(event["delta"])))
            case "response.function_call_arguments.done":
                self._called(event)
            case "response.done":
                self._done(event["response"])

    def tool_answered(self, call_id: str) -> None:
        """Learn that a tool's result is there: the application's, or that of a remote one (MCP), named by its item."""
        name = self._calls.pop(call_id, None)
        if name is not None:
            self._put(ToolEnded(name))

    def cut(self, heard_ms: float) -> list[Event]:
        """Return the events that take back what was not heard of the answer."""
        self.heard_ms = heard_ms
        heard = int(heard_ms * RATE / 1000)
        events: list[Event] = []
        for item in self._items:
            if item.gone or heard >= item.start + max(1, item.samples):
                continue
            item.gone = True
            if heard <= item.start:
                events.append({"type": "conversation.item.delete", "item_id": item.id})
            else:
                end = {"content_index": item.content_index, "audio_end_ms": (heard - item.start) * 1000 // RATE}
                events.append({"type": "conversation.item.truncate", "item_id": item.id, **end})
        return events

    def _audio(self, event: dict[str, Any]) -> None:
        try:
            raw = base64.b64decode(event["delta"], validate=True)
        except binascii.Error as error:
            raise ValueError("audio that is not base64") from error
        pcm = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.int16)
        if self.over or self._samples > ANSWER_S_MAX * RATE:
            pcm = pcm[:0]
        item = self._item(str(event["item_id"]))
        item.content_index = int(event["content_index"])
        item.samples += pcm.size
        self._samples += pcm.size
        if pcm.size:
            self._put(Audio(self._doubler(pcm)))

    def _item(self, item_id: str) -> _Item:
        if not self._items or self._items[-1].id != item_id:
            self._items = [*self._items[-ITEMS_MAX + 1 :], _Item(item_id, self._samples)]
        return self._items[-1]

    def _called(self, event: dict[str, Any]) -> None:
        call_id = str(event["call_id"])
        self._call(call_id, str(event.get("name") or self._names.get(call_id, "tool")))

    def _call(self, call_id: str, name: str) -> None:
        if len(self._calls) < CALLS_MAX:
            self._calls[call_id] = name
            self._put(ToolStarted(name))
            self.waits = True

    def _done(self, response: dict[str, Any]) -> None:
        if response.get("status") == "failed":
            error = (response.get("status_details") or {}).get("error") or {}
            self.fail(f"the model failed: {error.get('message') or error.get('code') or 'it does not say why'}")
        elif response.get("status") == "incomplete":
            reason = (response.get("status_details") or {}).get("reason") or "it does not say why"
            self.fail(f"the model broke off its answer: {reason}")
        elif self.waits and response.get("status") == "completed":
            self.response_id = None  # the application answers the tool call, then asks for more
        else:
            if self._samples:
                self._put(Audio(self._doubler(np.zeros(TAPS // 4, np.int16))))
            self._put(_END)

    def _put(self, output: ModelOutput | ModelError | object) -> None:
        if not self.over:
            self._outputs.append(output)
            self._more.set()
