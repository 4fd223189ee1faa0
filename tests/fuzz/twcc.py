"""Transport-wide feedback: only `TwccError`, what is read can be written and read again; numbers of any packet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from relay.transceiver.rtcp import Rtcp
from voice.twcc import Feedback, TwccError, pack, parse

MODULES: Final[tuple[str, ...]] = ("voice.twcc", "voice.rtp")

_NOW_NS: Final = 1_760_000_000_000_000_000
_NUMBER_ID: Final = 3


def seeds() -> Mapping[str, bytes]:
    """Messages with every kind of chunk, and an RTP packet with a number."""
    return {
        "run": pack(Feedback(7, 9, 65_530, 5, 255, tuple(range(0, 1_600, 80)))),
        "one-bit": pack(Feedback(7, 9, 1, 5, 0, (0, None, 160, 240, None, 400))),
        "two-bit": pack(Feedback(7, 9, 1, 5, 0, (0, None, 300, 290))),
        "packet": bytes.fromhex("906f0001000003c000000009bede000131002a00") + b"voice",
    }


def run(data: bytes) -> None:
    """Read it as feedback, and take it as a packet that feedback is on."""
    try:
        message = parse(data)
    except TwccError:
        pass
    else:
        assert parse(pack(message)) == message
    ours = Rtcp(7, "cname", transport_number_id=_NUMBER_ID, reduced_size=True)
    ours.arrived(data, _NOW_NS)
    for feedback in ours.feedback():
        assert parse(feedback).arrivals[-1] is not None
