"""Headers of a chunk: only `ChunkError`, and numbers within their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eventlog.cloudevents import headers, open_chunk, parse
from eventlog.codec import ChunkError
from eventlog.port import Message, TopicPartition
from eventlog.schema import PACKET

MODULES: Final[tuple[str, ...]] = ("eventlog.cloudevents",)


def _lines(given: Mapping[str, str]) -> bytes:
    return "\n".join(f"{name}={value}" for name, value in given.items()).encode()


def seeds() -> Mapping[str, bytes]:
    """Headers as lines of name=value."""
    good = headers(PACKET, "edge/host/1", 5, 2, b"value", 1_760_000_000_123_456_789)
    return {
        "good": _lines(good),
        "unknown-type": _lines({**good, "ce_type": "org.example.other.v1"}),
        "no-time": _lines({**good, "ce_time": "2026-02-30T00:00:00.000000000Z"}),
        "sequence": _lines({**good, "ce_sequence": str(2**64)}),
    }


def run(data: bytes) -> None:
    """Read it as a message's headers, then as a whole message without a value."""
    given = dict(line.partition("=")[::2] for line in data.decode("utf-8", "replace").split("\n"))
    try:
        header = parse(given)
    except ChunkError:
        return
    assert 0 <= header.sequence < 2**64
    assert 0 <= header.rows < 2**64
    assert 0 <= header.crc32c < 2**32
    try:
        open_chunk(Message(TopicPartition(PACKET.topic, 0), 0, b"", given, None, 0))
    except ChunkError:
        return
    raise AssertionError("an empty value was taken as a chunk")
