"""Dead letters: messages that could not be taken, kept whole in a topic of the log until a person decides.

The collector appends a letter, and has it acknowledged, before its position passes the message. A range that is
replayed appends its letters again; who reads the topic takes the letters of one message for one. Replaying a letter
appends the original bytes to the topic that it came from, and a mark here that says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from collector.opening import Refused, open_message
from eventlog.port import EventLog, Message, Record, RefusedError, TopicPartition
from eventlog.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES

WHERE: Final = TopicPartition(DEAD_LETTERS, 0)
_OWN: Final = "dlq_"
_DETAIL_CHARS: Final = 500
_READ_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be taken, and why. `reason` is machine-readable."""

    message: Message
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it stands in its topic.

    Attributes:
        where: partition that the message came from.
        offset: its offset there.
        reason: why it was refused, machine-readable.
        detail: the same for people.
        headers: of the message.
        key: of the message.
        value_bytes: size of its value.
        value_kept: whether the value is kept here; one that no log takes as a record is not.
        appended_ns: when the message was appended.
        refused_ns: when the letter was.
        at: offset of the letter.
        replayed_to: offset that the message got when it was appended again; None if it was not.

    """

    where: TopicPartition
    offset: int
    reason: str
    detail: str
    headers: Mapping[str, str]
    key: bytes | None
    value_bytes: int
    value_kept: bool
    appended_ns: int
    refused_ns: int
    at: int
    replayed_to: int | None = None

    @property
    def id(self) -> str:
        """`topic:partition:offset` of the message."""
        return f"{self.where.topic}:{self.where.partition}:{self.offset}"


class ReplayError(Exception):
    """A letter cannot be replayed. The message says which, and what to do."""


async def bury(log: EventLog, letters: tuple[DeadLetter, ...]) -> None:
    """Append letters; when this returns, they are durable.

    Raises:
        LogUnavailableError: some may not be.

    """
    for letter in letters:
        record = _record(letter)
        try:
            await log.append([record])
        except RefusedError:
            await log.append([replace(record, value=b"", headers=_without_value(record.headers))])


async def letters(log: EventLog) -> list[Letter]:
    """Return all letters, oldest first, one for each message."""
    found: dict[tuple[TopicPartition, int], Letter] = {}
    async for message in _messages(log):
        letter = _letter(message)
        if letter is None:
            continue
        key = (letter.where, letter.offset)
        if "dlq_replayed_to" not in message.headers:
            found.setdefault(key, letter)
        elif key in found:
            found[key] = replace(found[key], replayed_to=int(message.headers["dlq_replayed_to"]))
    return list(found.values())


async def original(log: EventLog, letter: Letter) -> Message:
    """Return the message as it was.

    Raises:
        ReplayError: its value was not kept, or the letter is gone.

    """
    kept = await log.read(WHERE, letter.at, max_bytes=1)
    if not letter.value_kept or not kept:
        raise ReplayError(f"{letter.id} had {letter.value_bytes} bytes, which are not kept; ask its producer for them")
    return Message(letter.where, letter.offset, kept[0].value, letter.headers, letter.key, letter.appended_ns)


async def replay(log: EventLog, letter: Letter, *, force: bool = False) -> int:
    """Append a letter's message again where it came from, mark the letter, and return the new offset.

    A message whose facts were stored meanwhile does no harm: the collector drops a chunk that it has.

    Args:
        log: the event log.
        letter: from `letters`.
        force: also if the message would be refused again now.

    Raises:
        ReplayError: the cause is still there.
        LogUnavailableError: the log cannot be written now.

    """
    message = await original(log, letter)
    if not force:
        try:
            open_message(message)
        except Refused as error:
            raise ReplayError(
                f"{letter.id} would be refused again ({error.reason}: {error.detail}). Remove the cause first."
            ) from error
    (offset,) = await log.append([Record(letter.where, message.value, message.headers, message.key)])
    mark = {**_origin(letter.where, letter.offset), "dlq_replayed_to": str(offset)}
    await log.append([Record(WHERE, b"", mark)])
    return offset


async def _messages(log: EventLog) -> AsyncIterator[Message]:
    await log.partitions(DEAD_LETTERS)  # created if missing
    offset, end = await log.bounds(WHERE)
    while offset < end:
        for message in await log.read(WHERE, offset, max_bytes=_READ_BYTES):
            offset = message.offset + 1
            yield message


def _origin(where: TopicPartition, offset: int) -> dict[str, str]:
    return {"dlq_topic": where.topic, "dlq_partition": str(where.partition), "dlq_offset": str(offset)}


def _record(letter: DeadLetter) -> Record:
    message = letter.message
    headers = {name: value for name, value in message.headers.items() if not name.startswith(_OWN)}
    headers |= _origin(message.where, message.offset) | {
        "dlq_reason": letter.reason,
        "dlq_detail": letter.detail[:_DETAIL_CHARS],
        "dlq_value_bytes": str(len(message.value)),
        "dlq_appended_ns": str(message.appended_ns),
    }
    record = Record(WHERE, message.value, headers, message.key)
    if len(message.value) > MAX_MESSAGE_BYTES:
        return replace(record, value=b"", headers=_without_value(headers))
    return record


def _without_value(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith(_OWN)} | {"dlq_value_kept": "0"}


def _letter(message: Message) -> Letter | None:
    """Read a letter or a mark; None for what is neither, which anyone may have appended."""
    own = message.headers
    try:
        return Letter(
            where=TopicPartition(own["dlq_topic"], int(own["dlq_partition"])),
            offset=int(own["dlq_offset"]),
            reason=own.get("dlq_reason", ""),
            detail=own.get("dlq_detail", ""),
            headers={name: value for name, value in own.items() if not name.startswith(_OWN)},
            key=message.key,
            value_bytes=int(own.get("dlq_value_bytes", "0")),
            value_kept=own.get("dlq_value_kept") != "0",
            appended_ns=int(own.get("dlq_appended_ns", "0")),
            refused_ns=message.appended_ns,
            at=message.offset,
        )
    except (KeyError, ValueError):
        return None
