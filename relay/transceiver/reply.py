"""One answer of the model: read ahead as far as the buffer allows, cut into frames, taken one per tick."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import numpy as np
import structlog

from relay.models import (
    FRAME_MS,
    FRAME_SAMPLES,
    Audio,
    FirstToken,
    ModelError,
    ModelOutput,
    Pcm,
    ToolEnded,
    ToolStarted,
    Transcript,
)
from voice.floor import ModelKind

OnSaid = Callable[[Transcript | ToolStarted | ToolEnded], None]

BUFFER_FRAMES: Final = 500
"""10 s of audio ahead of its playing; the model waits beyond that."""

_log = structlog.get_logger(__name__)


class Reply:
    """The stream of one turn's answer.

    Args:
        turn_id: of the turn that is answered.
        outputs: the model's stream.
        on_event: called once each with `model_first_token` and `model_first_audio`, when they come.
        is_voiced: tells voice from silence; silence at the end of an answer is not played.
        on_said: told of what the stream brings beside audio.

    """

    def __init__(
        self,
        turn_id: int,
        outputs: AsyncGenerator[ModelOutput],
        on_event: Callable[[ModelKind], None],
        is_voiced: Callable[[Pcm], bool],
        on_said: OnSaid = lambda _output: None,
    ) -> None:
        self.turn_id = turn_id
        self.error: str | None = None
        self.played = 0
        self._outputs = outputs
        self._on_event = on_event
        self._is_voiced = is_voiced
        self._on_said = on_said
        self._frames: deque[Pcm] = deque()
        self._rest = np.zeros(0, np.int16)
        self._space = asyncio.Event()
        self._seen: set[str] = set()
        self._task = asyncio.get_running_loop().create_task(self._read(), name=f"reply {turn_id}")

    @property
    def played_ms(self) -> float:
        """How much was taken."""
        return float(self.played * FRAME_MS)

    @property
    def complete(self) -> bool:
        """Whether the model has said all it will."""
        return self._task.done()

    @property
    def finished(self) -> bool:
        """Whether all of it was taken, too."""
        return self.complete and not self._frames

    def next_frame(self) -> Pcm | None:
        """Take the next 20 ms; None if nothing is ready."""
        if not self._frames:
            return None
        self.played += 1
        frame = self._frames.popleft()
        if len(self._frames) < BUFFER_FRAMES:
            self._space.set()
        return frame

    async def stop(self) -> None:
        """Cut the answer off and wait until the model has let go."""
        self._frames.clear()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            async with aclosing(self._outputs) as outputs:
                async for output in outputs:
                    self._once("model_first_token")
                    if isinstance(output, Audio):
                        await self._take(output)
                    elif not isinstance(output, FirstToken):
                        self._on_said(output)
        except ModelError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - a model is foreign code; its fault costs an answer, not the call
            _log.exception("a voice model failed", turn_id=self.turn_id)
            self.error = f"{type(error).__name__}: {error}"
        self._close()

    async def _take(self, audio: Audio) -> None:
        if audio.pcm.size:
            self._once("model_first_audio")
        self._rest = np.concatenate((self._rest, audio.pcm))
        while self._rest.size >= FRAME_SAMPLES:
            while len(self._frames) >= BUFFER_FRAMES:
                self._space.clear()
                await self._space.wait()
            self._frames.append(self._rest[:FRAME_SAMPLES])
            self._rest = self._rest[FRAME_SAMPLES:]

    def _close(self) -> None:
        if self._rest.size:
            self._frames.append(np.pad(self._rest, (0, FRAME_SAMPLES - self._rest.size)))
        while self._frames and not self._is_voiced(self._frames[-1]):
            self._frames.pop()

    def _once(self, kind: ModelKind) -> None:
        if kind not in self._seen:
            self._seen.add(kind)
            self._on_event(kind)
