"""Kafka's records to ours and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from eventlog.port import Message, TopicPartition


def to_kafka(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Return headers as Kafka takes them."""
    return [(name, value.encode()) for name, value in headers.items()]


def from_kafka(record: ConsumerRecord) -> Message:
    """Return a record as the port's message. A header that is not UTF-8 keeps its bytes as escapes; null is empty."""
    return Message(
        where=TopicPartition(record.topic, record.partition),
        offset=record.offset,
        value=record.value or b"",
        headers={name: (value or b"").decode(errors="backslashreplace") for name, value in record.headers},
        key=record.key,
        appended_ns=record.timestamp * 1_000_000,
    )


def whole(messages: Sequence[Message], max_bytes: int) -> list[Message]:
    """Return as many messages from the front as fit into `max_bytes`, at least one."""
    taken: list[Message] = []
    size = 0
    for message in messages:
        size += len(message.value)
        if taken and size > max_bytes:
            break
        taken.append(message)
    return taken
