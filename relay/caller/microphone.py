"""The caller's microphone: one Opus frame every 20 ms on an absolute schedule, and a record of what was in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from relay.caller.phrases import Frame, Phrase, silence
from relay.caller.records import Utterance
from relay.opus import FRAME_SAMPLES

FRAME_NS: Final = 20_000_000

RESYNC_NS: Final = 500_000_000
"""A schedule further behind than this is given up, as a sound card drops what nobody fetched."""


class Microphone:
    """A sound card whose samples the caller's script decides.

    Frames are due every 20 ms after the first; a late frame does not move the ones after it.

    Args:
        on_tick: called at every frame, before it is handed out, with its due time and the time now (monotonic ns) and
            the time now (wall clock ns); drives the earpiece, so that both ends of the headset run on one clock.

    """

    def __init__(self, on_tick: Callable[[int, int, int], None]) -> None:
        self._on_tick = on_tick
        self._due_ns: int | None = None
        self._frame = 0
        self._phrase: Phrase | None = None
        self._kind = ""
        self._at = 0
        self._quiet = 0
        self._silence = silence()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self.utterances: list[Utterance] = []
        """What was said so far, the current utterance last."""
        self.voiced_ns: int | None = None
        """When the last voiced sample was captured, as a level meter sees it that knows nothing of the script."""
        self.late_ns_max = 0
        """Largest delay of a frame after its due time."""
        self.skipped = 0
        """Frames given up because the process was too busy."""

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way."""
        return self._phrase is not None

    async def say(self, phrase: Phrase, kind: str) -> Utterance:
        """Say a phrase from the next frame on; returns when its last frame is sent.

        Raises:
            RuntimeError: something is being said already.

        """
        if self._waiter is not None:
            raise RuntimeError("the microphone plays one thing at a time")
        self._phrase, self._kind, self._at = phrase, kind, 0
        await self._wait()
        return self.utterances[-1]

    async def pause(self, frames: int) -> None:
        """Send exactly this many silent frames; returns when the last is sent.

        Raises:
            RuntimeError: something is being said already.

        """
        if self._waiter is not None:
            raise RuntimeError("the microphone plays one thing at a time")
        if frames > 0:
            self._quiet = frames
            await self._wait()

    def end(self) -> None:
        """Send no frame any more. An utterance under way is cut off and marked as incomplete."""
        self._ended.set()
        self._phrase = None
        if self._waiter is not None:
            self._waiter.cancel()

    async def next_frame(self) -> tuple[Frame, int]:
        """Wait for the next frame's time; returns it with its RTP timestamp (48 kHz, from 0).

        After `end` this never returns.
        """
        now_ns = time.monotonic_ns()
        if self._due_ns is None:
            self._due_ns = now_ns
        wait_ns = self._due_ns - now_ns
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)
        if self._ended.is_set():
            await asyncio.Event().wait()
        late_ns = time.monotonic_ns() - self._due_ns
        if late_ns > RESYNC_NS:
            missed = late_ns // FRAME_NS
            self.skipped += missed
            self._frame += missed
            self._due_ns += missed * FRAME_NS
        else:
            self.late_ns_max = max(self.late_ns_max, late_ns)
        due_ns, self._due_ns = self._due_ns, self._due_ns + FRAME_NS
        timestamp = self._frame * FRAME_SAMPLES
        self._frame += 1
        self._on_tick(due_ns, time.monotonic_ns(), time.time_ns())
        sent_ns = time.time_ns()
        frame = self._take(sent_ns)
        if frame.voiced_until:
            self.voiced_ns = _captured_ns(sent_ns, frame.voiced_until)
        return frame, timestamp

    def _take(self, sent_ns: int) -> Frame:
        phrase = self._phrase
        if phrase is None:
            if self._quiet:
                self._quiet -= 1
                if not self._quiet:
                    self._release()
            return self._silence
        if self._at == 0:
            start_ns = _captured_ns(sent_ns, 0)
            self.utterances.append(Utterance(phrase.clip, self._kind, start_ns, start_ns, complete=False))
        self._record(phrase, self.utterances[-1], sent_ns)
        frame = phrase.frames[self._at]
        self._at += 1
        if self._at == len(phrase.frames):
            self.utterances[-1].complete = True
            self._phrase = None
            self._release()
        return frame

    def _record(self, phrase: Phrase, utterance: Utterance, sent_ns: int) -> None:
        """Note when the voiced samples of the frame under way were captured."""
        first = self._at * FRAME_SAMPLES
        for start, end in phrase.spans:
            if start >= first + FRAME_SAMPLES or end <= first:
                continue
            until_ns = _captured_ns(sent_ns, min(end - first, FRAME_SAMPLES))
            if start >= first:
                utterance.spans.append((_captured_ns(sent_ns, start - first), until_ns))
            else:
                utterance.spans[-1] = (utterance.spans[-1][0], until_ns)
            utterance.end_ns = until_ns

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _captured_ns(sent_ns: int, offset: int) -> int:
    """When the sample at this offset of a frame was captured: a frame leaves when its last sample is in."""
    return sent_ns - (FRAME_SAMPLES - offset) * 1_000_000 // 48
