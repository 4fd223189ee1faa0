"""Ufrags: only `UfragError`, and nothing passes that was not minted with the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.ufrag import UfragError, mint, verify
from tests.fuzz.messages_of import KEY, KEYS, UFRAGS

MODULES: Final[tuple[str, ...]] = ("relay.ufrag",)


def seeds() -> Mapping[str, bytes]:
    """Good ones, and one of each way to be bad."""
    good = UFRAGS[0]
    other = mint("alph", bytes(32), 1, bytes(5))
    return {
        **{f"good-{n}": ufrag.encode() for n, ufrag in enumerate(UFRAGS)},
        "foreign-key": other.encode(),
        "unknown-key": mint("alph", KEY, 9, bytes(5)).encode(),
        "short": good[:-1].encode(),
        "browser": b"4ZcD",
    }


def run(data: bytes) -> None:
    """Verify it."""
    text = data.decode("utf-8", "replace")
    try:
        verified = verify(text, KEYS)
    except UfragError as error:
        if error.reason not in {"malformed", "version", "unknown_key", "bad_mac"}:
            raise
        return
    assert verified.text in UFRAGS, f"{text!r} passed, which nobody minted"
