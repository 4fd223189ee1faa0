"""Probes between edge and transceiver: only `ProbeError`, and nobody without the key is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from relay.probe import ProbeError, ping, pong, read_pong
from tests.fuzz.messages_of import HEADER_KEY

MODULES: Final[tuple[str, ...]] = ("relay.probe",)

_PING: Final = ping(b"nonce123", HEADER_KEY)
_REFUSING: Final = ping(b"nonce123", HEADER_KEY, refusing=True)


def seeds() -> Mapping[str, bytes]:
    """Both, signed and not."""
    foreign = ping(b"nonce123", bytes(32))
    return {"ping": _PING, "refusing": _REFUSING, "pong": pong(_PING, [HEADER_KEY], "test"), "foreign": foreign}


def run(data: bytes) -> None:
    """Read it as either."""
    try:
        answer = pong(data, [HEADER_KEY], "test")
    except ProbeError:
        pass
    else:
        assert data in {_PING, _REFUSING}
        assert len(answer) <= len(data) + 1 + len("test")
    with contextlib.suppress(ProbeError):
        assert read_pong(data, [HEADER_KEY]).region == "test"
