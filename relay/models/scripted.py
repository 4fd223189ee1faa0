"""A model with answers of real speech and seeded think times: the same seed gives the same conversation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import cache

import numpy as np

from relay.models.protocol import Model, ModelOutput, Pcm
from relay.models.think import Thinker


class ScriptedModel(Model):
    """Answers turn after turn from a shuffled stock of clips; the script goes on whatever the user says."""

    name = "scripted"

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        clips: Sequence[tuple[str, Pcm]] | None = None,
        think_median_ms: float = 350.0,
        think_sigma: float = 0.35,
        token_share: float = 0.6,
    ) -> None:
        self._clips = _stock() if clips is None else tuple(clips)
        if not self._clips:
            raise ValueError("a scripted model needs at least one clip to answer with")
        self._order = rng.permutation(len(self._clips))
        self._thinker = Thinker(rng, median_ms=think_median_ms, sigma=think_sigma, token_share=token_share)

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        """Say the turn's clip."""
        text, pcm = self._clips[self._order[turn_id % len(self._clips)]]
        async for output in self._thinker.answer(pcm, text):
            yield output


@cache
def _stock() -> tuple[tuple[str, Pcm], ...]:
    """Load the agent's clips, words and sound, once per process."""
    from relay import speech  # noqa: PLC0415 - the clips are read from disk only where they are spoken

    clips = [speech.load(name) for name in sorted(speech.names("agent_"))]
    return tuple((clip.text, clip.pcm) for clip in clips)
