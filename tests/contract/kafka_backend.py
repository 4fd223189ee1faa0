"""Kafka as the contract suite sees it, on a real broker."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence

from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from eventlog import TopicPartition
from eventlog.kafka import KafkaConnection, KafkaEventLog
from eventlog.topics import Topic

DAY_MS = 86_400_000


class KafkaBackend:
    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._connection = KafkaConnection(bootstrap)
        self._partitions = partitions
        run = uuid.uuid4().hex[:8]
        self._names = (f"contract.{run}.{number}" for number in itertools.count())
        self._opened: list[KafkaEventLog] = []

    async def topics(self, count: int) -> Sequence[str]:
        names = list(itertools.islice(self._names, count))
        log = KafkaEventLog(self._connection, [Topic(name, self._partitions, 1, DAY_MS) for name in names])
        for name in names:
            assert await log.partitions(name) == self._partitions
        await log.aclose()
        return names

    async def open(self) -> KafkaEventLog:
        self._opened.append(KafkaEventLog(self._connection))
        return self._opened[-1]

    async def trim(self, where: TopicPartition) -> None:
        log = await self.open()
        first, end = await log.bounds(where)
        admin = AIOKafkaAdminClient(**self._connection.arguments())
        await admin.start()
        there = KafkaTopicPartition(where.topic, where.partition)
        await admin.delete_records({there: RecordsToDelete((first + end + 1) // 2)})
        await admin.close()

    async def aclose(self) -> None:
        for log in self._opened:
            await log.aclose()
