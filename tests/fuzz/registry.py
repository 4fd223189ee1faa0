"""Every parser of foreign bytes by the name of its fuzz target.

A target is a module of this folder with

    MODULES     what is instrumented, so that the fuzzer sees which of its branches an input takes
    seeds()     real messages by name, made anew each time, so that they never are yesterday's
    run(data)   takes any bytes; raises only if something is wrong with the code under test

The committed corpus holds some of what fuzzing added to them, and what once broke something.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, cast

TARGETS: Final = (
    "stun",
    "ufrag",
    "encap",
    "rtp",
    "rtcp",
    "twcc",
    "edge_up",
    "edge_down",
    "demux",
    "offer",
    "messages",
    "chunk",
    "headers",
    "sql",
    "multipart",
    "request",
    "script",
    "behaviour",
    "events",
    "form",
    "probe",
    "keep",
    "regions",
)

CORPUS: Final = Path(__file__).with_name("corpus")
LARGEST: Final[Mapping[str, int]] = {
    "chunk": 16_384,
    "events": 8_192,
    "form": 4_096,
    "messages": 8_192,
    "offer": 8_192,
    "script": 4_096,
    "sql": 4_096,
}
"""Longest input in bytes where 2,048, a datagram, is not right."""


class Target(Protocol):
    """What a target's module offers."""

    MODULES: tuple[str, ...]

    def seeds(self) -> Mapping[str, bytes]:
        """Real messages by file name."""

    def run(self, data: bytes) -> None:
        """Try any bytes."""


def load(name: str) -> Target:
    """Import a target."""
    return cast("Target", importlib.import_module(f"tests.fuzz.{name}"))


def corpus(name: str) -> list[Path]:
    """Files of a target's corpus."""
    folder = CORPUS / name
    return sorted(folder.iterdir()) if folder.is_dir() else []


def largest(name: str) -> int:
    """Longest input of a target in bytes."""
    return LARGEST.get(name, 2_048)
