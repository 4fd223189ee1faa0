"""A model that answers with what the user said: the plainest way to hear what the platform hears."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import numpy as np

from relay.models.protocol import FRAME_MS, Event, Model, ModelError, ModelOutput, Pcm
from relay.models.think import Thinker

LEAD_FRAMES: Final = 5
"""Frames kept from before a detector's first verdict of speech, so that onsets are not cut."""

KEEP_S: Final = 20.0
"""Longest utterance that is repeated; of a longer one, its end."""


class EchoModel(Model):
    """Repeats the user's last utterance, from its first to its last frame of speech."""

    name = "echo"

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        think_median_ms: float = 0.0,
        think_sigma: float = 0.0,
        token_share: float = 0.5,
    ) -> None:
        self._thinker = Thinker(rng, median_ms=think_median_ms, sigma=think_sigma, token_share=token_share)
        self._lead: deque[Pcm] = deque(maxlen=LEAD_FRAMES)
        self._said: deque[Pcm] = deque(maxlen=int(KEEP_S * 1000 / FRAME_MS))
        self._since_speech: list[Pcm] = []
        self._answered: list[Pcm] = []

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        """Keep the frame if it belongs to an utterance."""
        if speech:
            self._said.extend(self._since_speech if self._said else self._lead)
            self._since_speech.clear()
            self._said.append(pcm)
        elif self._said:
            self._since_speech.append(pcm)
            if len(self._since_speech) > (self._said.maxlen or 0):
                self._since_speech.clear()
        self._lead.append(pcm)

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        """Say the utterance again."""
        self._answered = list(self._said)
        if not self._said:
            raise ModelError(f"turn {turn_id} holds no speech to repeat; the detector and the endpointer disagree")
        said = np.concatenate(self._said)
        self._said.clear()
        self._since_speech.clear()
        async for output in self._thinker.answer(said):
            yield output

    def interrupted(self, turn_id: int, heard_ms: float) -> None:
        """Take back an utterance of whose repetition nothing was heard: the user goes on with it."""
        del turn_id
        if not heard_ms:
            said = [*self._answered, *self._said]
            self._said.clear()
            self._said.extend(said)
        self._answered = []

    def client_event(self, event: Event) -> None:
        """Forget what was said, if the application wants that."""
        if event["type"] == "input_audio_buffer.clear":
            self._said.clear()
            self._since_speech.clear()

    async def aclose(self) -> None:
        """Drop what was kept."""
        self._said.clear()
        self._answered = []
