"""Probes between edge and transceiver: only `ProbeError`, and nobody without the key is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from relay.probe import ProbeError, ping, pong, read_pong
from tests.fuzz.messages_of import HEADER_KEY

MODULES: Final[tuple[str, ...]] = ("relay.probe",)

_PING: Final = ping(b"nonce123", HEADER_KEY)


def seeds() -> Mapping[str, bytes]:
    """Both, signed and not."""
    return {"ping": _PING, "pong": pong(_PING, [HEADER_KEY], "test"), "foreign": ping(b"nonce123", bytes(32))}


def run(data: bytes) -> None:
    """Read it as either."""
    try:
        answer = pong(data, [HEADER_KEY], "test")
    except ProbeError:
        pass
    else:
        assert data == _PING
        assert len(answer) <= len(data) + 1 + len("test")
    with contextlib.suppress(ProbeError):
        assert read_pong(data, [HEADER_KEY]).region == "test"
