"""The event log on Apache Kafka, by aiokafka.

What Kafka keeps of the port's promises: an append that returned was acknowledged by all in-sync replicas; records of
one partition keep their order. What it does not: an append that raised may have stored some of its records, and a
producer that is made anew after an error is another producer to the broker, which therefore cannot see that a record
sent again is a duplicate. The collector can: it drops chunks that it has already taken (`ce_source`, `ce_type`,
`ce_sequence`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.structs import RecordMetadata

from eventlog.kafka_clients import KafkaConnection, discard, started, why_unreachable
from eventlog.kafka_group import KafkaSubscription
from eventlog.kafka_messages import from_kafka, to_kafka, whole
from eventlog.port import (
    EventLogError,
    LogUnavailableError,
    Message,
    OffsetOutOfRangeError,
    Record,
    RefusedError,
    TopicPartition,
)
from eventlog.topics import MAX_MESSAGE_BYTES, Topic

__all__ = ["REQUEST_TIMEOUT_MS", "KafkaConnection", "KafkaEventLog"]

_T = TypeVar("_T")

REQUEST_TIMEOUT_MS: Final = 40_000
"""Longer than a broker's restart: with 5 s, batches expire meanwhile and the idempotent producer stays stuck for good
(measured with aiokafka 0.14 on Kafka 4.4.0)."""

_CREATED_S: Final = 10.0


class KafkaEventLog:
    """Implements `eventlog.port.EventLog` on Kafka topics.

    Clients are made at the first call that needs them, and anew after an error, so making the object never fails and
    a stuck idempotent producer never stays.

    Args:
        connection: how to reach the brokers.
        topics: created, as declared, where they are missing; the others are left as they are.
        request_timeout_ms: after this long without an acknowledgement an append gives up.

    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Sequence[Topic] = (),
        *,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self.connection = connection
        self._topics = topics
        self._timeout_ms = request_timeout_ms
        self._producer: AIOKafkaProducer | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._closed = False

    async def append(self, records: Sequence[Record]) -> list[int]:
        """Append all records, in order per partition, and return their offsets.

        Raises:
            LogUnavailableError: some were not acknowledged, and may be stored or not.
            RefusedError: one is larger than the log, or the topic, takes.

        """

        async def in_time() -> list[int]:
            # aiokafka repeats an idempotent batch for as long as its broker is away.
            try:
                async with asyncio.timeout(self._timeout_ms / 1000):
                    return await work()
            except TimeoutError:
                raise KafkaTimeoutError(f"no acknowledgement within {self._timeout_ms / 1000:g} s") from None

        async def work() -> list[int]:
            producer = await self._appender()
            for where in {record.where for record in records}:
                self._check(where, await producer.partitions_for(where.topic))
            sent: list[asyncio.Future[RecordMetadata]] = []
            try:
                for record in records:
                    sent.append(  # noqa: PERF401 - each is to be known should the next fail
                        await producer.send(
                            record.where.topic,
                            record.value,
                            key=record.key,
                            partition=record.where.partition,
                            headers=to_kafka(record.headers),
                        )
                    )
                return [(await acknowledgement).offset for acknowledgement in sent]
            except BaseException:
                # After an expired batch aiokafka's idempotent producer never sends on that partition again.
                if self._producer is producer:
                    self._producer = None
                await discard(producer)
                await asyncio.gather(*sent, return_exceptions=True)  # all failed by now; asyncio wants that seen
                raise

        for record in records:
            if len(record.value) > MAX_MESSAGE_BYTES:
                raise RefusedError(
                    f"a record of {len(record.value)} bytes for {record.where} is above the limit of "
                    f"{MAX_MESSAGE_BYTES}; make smaller chunks"
                )
        return await self._reaching(in_time)

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""

        async def work() -> int:
            admin = await self._administrator()
            (found,) = await admin.describe_topics([topic])
            if found["error_code"]:
                raise EventLogError(f"Kafka has no topic {topic} ({for_code(found['error_code']).__name__})")
            return len(found["partitions"])

        return await self._reaching(work)

    async def bounds(self, where: TopicPartition) -> tuple[int, int]:
        """Return `(first, end)`."""
        there = KafkaTopicPartition(where.topic, where.partition)

        async def work() -> tuple[int, int]:
            reader = await self._unassigned()
            self._check(where, set(range(await self.partitions(where.topic))))
            first = await reader.beginning_offsets([there])
            end = await reader.end_offsets([there])
            return first[there], end[there]

        return await self._reaching(work)

    async def read(self, where: TopicPartition, offset: int, *, max_bytes: int) -> list[Message]:
        """Read messages from an offset without joining a group, at least one if there is one."""
        there = KafkaTopicPartition(where.topic, where.partition)
        first, end = await self.bounds(where)
        if not first <= offset <= end:
            raise OffsetOutOfRangeError(where, offset, first, end)

        async def work() -> list[Message]:
            if offset == end:
                return []
            reader = await self._unassigned()
            reader.assign([there])
            reader.seek(there, offset)
            found: list[Message] = []
            deadline = time.monotonic() + self._timeout_ms / 1000
            while not found:
                if time.monotonic() > deadline:
                    raise KafkaTimeoutError(f"{where} offset {offset} did not come")
                batch = await reader.getmany(there, timeout_ms=1_000)
                found = [from_kafka(record) for record in batch.get(there, ())]
            reader.unsubscribe()  # or it would go on asking
            return whole(found, max_bytes)

        return await self._reaching(work)

    def subscribe(self, group: str, topics: Sequence[str]) -> KafkaSubscription:
        """Return a member of `group` for partitions of `topics`; enter it to join."""
        return KafkaSubscription(self.connection.arguments(), group, topics)

    async def aclose(self) -> None:
        """Close all connections. Calls after this raise `EventLogError`."""
        self._closed = True
        await self._disconnect()

    async def _appender(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self.connection.arguments(),
                acks="all",
                enable_idempotence=True,
                request_timeout_ms=self._timeout_ms,
                max_request_size=MAX_MESSAGE_BYTES + 65_536,
                max_batch_size=MAX_MESSAGE_BYTES,
                compression_type=None,  # chunks are compressed already
            )
            await started(producer)
            self._producer = producer
        return self._producer

    async def _unassigned(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(
                **self.connection.arguments(),
                enable_auto_commit=False,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
                fetch_max_wait_ms=20,  # the broker answers nothing else on a connection while it waits for messages
            )
            await started(reader)
            self._reader = reader
        return self._reader

    async def _administrator(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**self.connection.arguments(), request_timeout_ms=10_000)
            try:
                await admin.start()
                await self._create_topics(admin)
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin

    async def _create_topics(self, admin: AIOKafkaAdminClient) -> None:
        known = set(await admin.list_topics())
        missing = [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.configuration())
            for topic in self._topics
            if topic.name not in known
        ]
        if not missing:
            return
        answer = await admin.create_topics(missing)
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:  # another process was quicker
                raise EventLogError(f"Kafka refused to create topic {name}: {error.__name__} ({error.description})")
        # A broker answers before it knows the topic itself.
        names = [topic.name for topic in missing]
        async with asyncio.timeout(_CREATED_S):
            while any(found["error_code"] for found in await admin.describe_topics(names)):  # noqa: ASYNC110 - Kafka does not say when
                await asyncio.sleep(0.05)

    async def _reaching(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        if self._closed:
            raise EventLogError(f"the event log on {self.connection.bootstrap} is closed; open it again")
        try:
            return await work()
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise RefusedError(
                f"Kafka at {self.connection.bootstrap} refuses a record as too large: {error}"
            ) from error
        except (KafkaError, OSError) as error:
            await self._disconnect()
            reason = (
                await why_unreachable(self.connection.arguments()) if isinstance(error, KafkaConnectionError) else ""
            )
            raise LogUnavailableError(
                f"Kafka at {self.connection.bootstrap} did not take the request "
                f"({reason or f'{type(error).__name__}: {error}'}); it may be repeated"
            ) from error

    def _check(self, where: TopicPartition, partitions: Collection[int]) -> None:
        if where.partition not in partitions:
            raise EventLogError(
                f"Kafka at {self.connection.bootstrap} has no {where}: the topic has {len(partitions)} partitions"
            )

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        reader, self._reader = self._reader, None
        admin, self._admin = self._admin, None
        if producer is not None:
            await discard(producer)
        if reader is not None:
            await reader.stop()
        if admin is not None:
            await admin.close()
