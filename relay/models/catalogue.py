"""Models by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from relay.models.echo import EchoModel
from relay.models.protocol import VoiceModel
from relay.models.scripted import ScriptedModel


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model answers, and how it is set.

    Attributes:
        name: one of `NAMES`.
        seed: with a session's own seed, decides everything random that the model does.
        think_median_ms: `scripted`, `echo`: median of the log-normal time from request to first audio.
        think_sigma: standard deviation of the logarithm of that time; 0 makes it constant.
        token_share: part of the think time after which the first token comes, 0 … 1.

    """

    name: str = "scripted"
    seed: int = 0
    think_median_ms: float = 350.0
    think_sigma: float = 0.35
    token_share: float = 0.6

    def __post_init__(self) -> None:
        """Refuse a name that is not in the catalogue, and times that cannot be."""
        if self.name not in _MAKERS:
            raise ValueError(f"there is no voice model {self.name!r}; choose one of {', '.join(NAMES)}")
        if self.think_median_ms < 0 or self.think_sigma < 0 or not 0 <= self.token_share <= 1:
            raise ValueError("a model's think time must not be negative, and token_share lies within 0 … 1")


def create(config: ModelConfig, session_seed: int) -> VoiceModel:
    """Make the model of one call."""
    return _MAKERS[config.name](config, np.random.default_rng((config.seed, session_seed)))


_MAKERS: Final[dict[str, Callable[[ModelConfig, np.random.Generator], VoiceModel]]] = {
    "echo": lambda config, rng: EchoModel(
        rng, think_median_ms=config.think_median_ms, think_sigma=config.think_sigma, token_share=config.token_share
    ),
    "scripted": lambda config, rng: ScriptedModel(
        rng, think_median_ms=config.think_median_ms, think_sigma=config.think_sigma, token_share=config.token_share
    ),
}

NAMES: Final = tuple(_MAKERS)
