"""How long a model that does not really think pretends to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from relay.models.protocol import Audio, FirstToken, ModelOutput, Pcm, Transcript


class Thinker:
    """Log-normal think times: the shape of a model's time to first audio, with a median a person can set."""

    def __init__(self, rng: np.random.Generator, *, median_ms: float, sigma: float, token_share: float) -> None:
        self._rng = rng
        self._median_s = median_ms / 1000
        self._sigma = sigma
        self._token_share = token_share

    async def answer(self, pcm: Pcm, text: str = "") -> AsyncGenerator[ModelOutput]:
        """Wait, name the first token, wait, and yield the words, if they are known, and the audio whole."""
        think_s = self._median_s * float(np.exp(self._sigma * self._rng.standard_normal()))
        await asyncio.sleep(think_s * self._token_share)
        yield FirstToken()
        await asyncio.sleep(think_s * (1 - self._token_share))
        if text:
            yield Transcript(text)
        yield Audio(pcm)
