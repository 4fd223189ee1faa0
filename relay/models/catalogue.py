"""Models by name, and models of others by where their class is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import numpy as np

from relay.models.echo import EchoModel
from relay.models.openai_realtime import OpenAIRealtimeModel
from relay.models.openai_session import OpenAIConfig
from relay.models.protocol import ModelError, VoiceModel
from relay.models.scripted import ScriptedModel


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model answers, and how it is set.

    Attributes:
        name: one of `NAMES`, or `module:Class` of a model of somebody else's, made without arguments.
        seed: with a session's own seed, decides everything random that the model does.
        think_median_ms: `scripted`, `echo`: median of the log-normal time from request to first audio.
        think_sigma: standard deviation of the logarithm of that time; 0 makes it constant.
        token_share: part of the think time after which the first token comes, 0 … 1.
        openai: `openai_realtime`: which API, and how it is set.

    """

    name: str = "scripted"
    seed: int = 0
    think_median_ms: float = 350.0
    think_sigma: float = 0.35
    token_share: float = 0.6
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)

    def __post_init__(self) -> None:
        """Refuse a name that is not in the catalogue, and times that cannot be."""
        if self.name not in _MAKERS and not _PLACE.fullmatch(self.name):
            raise ValueError(
                f"there is no voice model {self.name!r}; choose one of {', '.join(NAMES)} or a class, module:Class"
            )
        if self.think_median_ms < 0 or self.think_sigma < 0 or not 0 <= self.token_share <= 1:
            raise ValueError("a model's think time must not be negative, and token_share lies within 0 … 1")


@dataclass(frozen=True, slots=True)
class Application:
    """What the application that calls brings with it.

    Attributes:
        session: fields of a Realtime session that it asks for.
        bearer: its own token for the model, in no text that is made of this.

    """

    session: Mapping[str, Any] = field(default_factory=dict)
    bearer: str | None = field(default=None, repr=False)


def create(config: ModelConfig, session_seed: int, application: Application | None = None) -> VoiceModel:
    """Make the model of one call; without an application only to see that it can be made.

    Raises:
        ModelError: it needs a key, and there is none; or there is no such class.

    """
    if config.name not in _MAKERS:
        return _imported(config.name)
    rng = np.random.default_rng((config.seed, session_seed))
    return _MAKERS[config.name](config, rng, application)


def environment_key() -> str | None:
    """Return the key for OpenAI's API; from the environment only, so that no file or fact ever has it."""
    return os.environ.get("SIDETONE_OPENAI_API_KEY") or os.environ.get("OPENAI_API_KEY") or None


def _imported(name: str) -> VoiceModel:
    module, _, of = name.partition(":")
    try:
        made: VoiceModel = getattr(import_module(module), of)()
    except Exception as error:  # a model is foreign code, and may want what is not there
        raise ModelError(f"the voice model {name} cannot be made: {type(error).__name__}: {error}") from error
    return made


def _openai(config: ModelConfig, _rng: np.random.Generator, application: Application | None) -> VoiceModel:
    hand_on = config.openai.hand_on
    key = (application.bearer if application and hand_on else None) or environment_key()
    if key is None and not hand_on:
        raise ModelError("openai_realtime needs a key: set SIDETONE_OPENAI_API_KEY or OPENAI_API_KEY")
    if key is None and application is not None:
        raise ModelError("this call needs a key for the model: send it as a bearer token")
    return OpenAIRealtimeModel(config.openai, key, application.session if application else None)


_PLACE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_MAKERS: Final[dict[str, Callable[[ModelConfig, np.random.Generator, Application | None], VoiceModel]]] = {
    "openai_realtime": _openai,
    "echo": lambda config, rng, _application: EchoModel(
        rng, think_median_ms=config.think_median_ms, think_sigma=config.think_sigma, token_share=config.token_share
    ),
    "scripted": lambda config, rng, _application: ScriptedModel(
        rng, think_median_ms=config.think_median_ms, think_sigma=config.think_sigma, token_share=config.token_share
    ),
}

NAMES: Final = tuple(_MAKERS)
