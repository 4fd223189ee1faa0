"""Messages of a client's data channel: only `BadMessageError`, and what is taken is within its bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from relay.transceiver.channel import NAME_CHARS_MAX, VALUES_MAX, BadMessageError, read_message

MODULES: Final[tuple[str, ...]] = ("relay.transceiver.channel", "json.decoder", "json.scanner")


def seeds() -> Mapping[str, bytes]:
    """What `call.js` sends."""
    stats = {
        "type": "sidetone.stats",
        "client_ns": 1_760_000_000_000_000_000,
        "kind": "inbound-rtp",
        "stream": 4_294_967_295,
        "values": {"jitter": 0.01, "packetsLost": -1, "mid": "0", "on": True, "huge": 10**30, "never": None},
    }
    return {
        "stats": json.dumps(stats).encode(),
        "playout": b'{"type": "sidetone.playout", "values": {"turn": 1}}',
        "foreign": b'{"type": "session.update", "session": {"voice": "x"}}',
        "deep": b"[" * 500,
    }


def run(data: bytes) -> None:
    """Read it as text and as bytes."""
    for message in (data, data.decode("utf-8", "replace")):
        try:
            client_ns, kind, stream, values = read_message(message)
        except BadMessageError:
            continue
        assert client_ns is None or 0 <= client_ns < 1 << 63
        assert stream is None or 0 <= stream < 1 << 32
        assert 0 < len(kind) <= NAME_CHARS_MAX
        assert len(values) <= VALUES_MAX
        assert all(len(name) <= NAME_CHARS_MAX and math.isfinite(value) for name, value in values.items())
