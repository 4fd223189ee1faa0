"""One member of a Kafka consumer group, as the port's subscription."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.errors import (
    OffsetOutOfRangeError as KafkaOffsetOutOfRangeError,
)

from eventlog.kafka_assignor import AloneAssignor, SharingAssignor
from eventlog.kafka_clients import why_unreachable
from eventlog.kafka_messages import from_kafka, whole
from eventlog.port import (
    Committed,
    FencedError,
    LogUnavailableError,
    Message,
    OffsetOutOfRangeError,
    TopicPartition,
)
from eventlog.topics import MAX_MESSAGE_BYTES

SESSION_TIMEOUT_MS: Final = 10_000
"""A member that gives no sign of life for this long is out of the group."""

MAX_POLL_INTERVAL_MS: Final = 300_000
"""So is one that does not fetch: inserts run off the loop, but a range is finished before the next fetch."""

_STOP_S: Final = 2.0

_FENCED = (CommitFailedError, IllegalGenerationError, IllegalStateError, RebalanceInProgressError, UnknownMemberIdError)


class KafkaSubscription(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's has no types
    """Implements `eventlog.port.Subscription` on a consumer group.

    Every rebalance makes a new generation, and what was fetched before it is forgotten, because another member may
    have gone on from the committed position meanwhile.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        group: str,
        topics: Sequence[str],
        *,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS,
        alone: bool = False,
    ) -> None:
        self._arguments = arguments
        self._group = group
        self._topics = topics
        self._assignor = AloneAssignor if alone else SharingAssignor
        self._session_timeout_ms = session_timeout_ms
        self._max_poll_interval_ms = max_poll_interval_ms
        self._generation = 0
        self._assigned = asyncio.Event()
        self._fallen_out = False
        self._fetched: deque[Message] = deque()
        self._commits: set[asyncio.Task[None]] = set()
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions this member owns now; none before it joined and after it left."""
        owned = self._consumer.assignment() if self._consumer is not None else ()
        return frozenset(TopicPartition(there.topic, there.partition) for there in owned)

    @property
    def generation(self) -> int:
        """Number of assignments that this member has had."""
        return self._generation

    async def fetch(self, *, max_bytes: int, timeout_s: float) -> list[Message]:
        """Return the next messages of the assigned partitions; see the port."""
        deadline = time.monotonic() + timeout_s
        if self._fallen_out:
            await self._join_anew()
        while not self._fetched:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            generation = self._generation
            batches = await self._poll(left_ms)
            if generation == self._generation:
                for batch in batches.values():
                    self._fetched.extend(from_kafka(record) for record in batch)
            if not self._fetched and time.monotonic() >= deadline:
                return []
        taken = whole(self._fetched, max_bytes)
        for _ in taken:
            self._fetched.popleft()
        return taken

    async def _poll(self, timeout_ms: int) -> dict[KafkaTopicPartition, list[Any]]:
        try:
            batches: dict[KafkaTopicPartition, list[Any]] = await self._joined.getmany(timeout_ms=timeout_ms)
        except KafkaOffsetOutOfRangeError as error:
            raise await self._overtaken(error) from error
        except KafkaError as error:
            raise LogUnavailableError(f"Kafka did not answer the fetch ({type(error).__name__}: {error})") from error
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # Not this task: aiokafka cancels its heartbeat while that leaves the group (the poll limit has passed), and
            # its coordination dies of it for good.
            self._fallen_out = True
            await self._join_anew()
        return batches

    async def seek(self, where: TopicPartition, offset: int) -> None:
        """Make `offset` the next message of a partition."""
        self._fetched = deque(message for message in self._fetched if message.where != where)
        try:
            self._joined.seek(_there(where), offset)
        except IllegalStateError as error:
            raise FencedError(f"{where} is no longer assigned to this member of {self._group}") from error

    async def commit(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Store positions, fenced by the group's generation."""
        names = ", ".join(map(str, positions))
        sending = asyncio.ensure_future(
            self._joined.commit(
                {_there(where): (position.offset, position.metadata) for where, position in positions.items()}
            )
        )
        self._commits.add(sending)
        generation = self._generation
        try:
            await sending
        except asyncio.CancelledError:
            if generation == self._generation or not sending.cancelled():
                raise
            raise FencedError(f"group {self._group} was rebalanced before it took the positions of {names}") from None
        except _FENCED as error:
            raise FencedError(f"group {self._group} gave {names} to another member ({error})") from error
        except KafkaError as error:
            raise _unavailable("the commit", error) from error
        finally:
            self._commits.discard(sending)
            sending.cancel()

    async def committed(self, where: TopicPartition) -> Committed | None:
        """Read position and metadata back."""
        try:
            if self._admin is None:
                self._admin = AIOKafkaAdminClient(**self._arguments)
                await self._admin.start()
            # Not consumer.committed(), which drops the metadata.
            found = await self._admin.list_consumer_group_offsets(self._group, partitions=[_there(where)])
        except (KafkaError, OSError) as error:
            raise _unavailable("the request for a position", error) from error
        position = found.get(_there(where))
        return None if position is None or position.offset < 0 else Committed(position.offset, position.metadata)

    async def aclose(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        if consumer is not None:
            await consumer.stop()
        if admin is not None:
            await admin.close()

    async def __aenter__(self) -> Self:
        """Join the group and wait for the first assignment."""
        await self._join()
        return self

    async def _join_anew(self) -> NoReturn:
        """Replace a consumer that fell out of the group.

        Raises:
            FencedError: it is in the group again, at positions that another member may have moved.
            LogUnavailableError: it cannot be now; the next fetch tries again.

        """
        consumer, self._consumer = self._consumer, None
        self._generation += 1
        self._fetched.clear()
        self._assigned.clear()
        if consumer is not None:
            stopping = asyncio.ensure_future(consumer.stop())
            await asyncio.wait({stopping}, timeout=_STOP_S)
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)  # what is left of it may fail as it likes
        await self._join()
        self._fallen_out = False
        raise FencedError(f"this member fell out of {self._group} and has joined it again")

    async def _join(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._arguments,
            group_id=self._group,
            enable_auto_commit=False,
            partition_assignment_strategy=(self._assignor,),
            auto_offset_reset="none",  # a position that retention overtook is an error, not a jump
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=self._session_timeout_ms // 10,
            max_poll_interval_ms=self._max_poll_interval_ms,
        )
        consumer.subscribe(self._topics, listener=self)
        self._consumer = consumer
        try:
            await consumer.start()
            await self._assigned.wait()
        except (KafkaError, OSError) as error:
            await self.aclose()
            reason = await why_unreachable(self._arguments) if isinstance(error, KafkaConnectionError) else ""
            raise LogUnavailableError(
                f"group {self._group} cannot be joined ({reason or f'{type(error).__name__}: {error}'})"
            ) from error
        except BaseException:
            await self.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Leave the group."""
        await self.aclose()

    async def on_partitions_revoked(self, revoked: Iterable[KafkaTopicPartition]) -> None:  # noqa: ARG002 - aiokafka's
        """Forget what was fetched: it may be another member's now."""
        self._generation += 1
        # aiokafka tries a commit again after a lost connection, and would do so in the next generation's name.
        for commit in self._commits:
            commit.cancel()
        self._fetched.clear()

    async def on_partitions_assigned(self, assigned: Iterable[KafkaTopicPartition]) -> None:
        """Begin a new generation at the committed positions, or at the log's start where there is none."""
        self._generation += 1
        self._fetched.clear()
        fresh = [there for there in assigned if await self._joined.committed(there) is None]
        for there, first in (await self._joined.beginning_offsets(fresh)).items() if fresh else ():
            self._joined.seek(there, first)
        self._assigned.set()

    @property
    def _joined(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise FencedError(f"this member of {self._group} has not joined, or has left")
        return self._consumer

    async def _overtaken(self, error: KafkaOffsetOutOfRangeError) -> OffsetOutOfRangeError:
        (there, wanted) = next(iter(error.args[0].items()))
        first = await self._joined.beginning_offsets([there])
        end = await self._joined.end_offsets([there])
        return OffsetOutOfRangeError(TopicPartition(there.topic, there.partition), wanted, first[there], end[there])


def _there(where: TopicPartition) -> KafkaTopicPartition:
    return KafkaTopicPartition(where.topic, where.partition)


def _unavailable(what: str, error: Exception) -> LogUnavailableError:
    return LogUnavailableError(f"Kafka did not answer {what} ({type(error).__name__}: {error}); it may be repeated")
