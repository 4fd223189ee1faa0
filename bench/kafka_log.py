"""The Kafka log against aiokafka alone: megabytes per second to append and to read, on a real broker.

`python -m bench.kafka_log --json`. The broker is started for the run, or is the one that SIDETONE_KAFKA_BOOTSTRAP
names. The baselines send the same chunks with a bare idempotent producer and read them with a bare consumer. Where no
broker can be run (no Java), all figures are null.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition

from bench.harness import Work, arguments, cpu_s, report, rounds
from eventlog import Record, TopicPartition
from eventlog.kafka import KafkaConnection, KafkaEventLog
from eventlog.topics import MAX_MESSAGE_BYTES, Topic
from sidetone.broker import Broker, BrokerUnavailableError

PARTITIONS = 4
HEADERS = {"ce_id": "packet-0", "ce_source": "bench", "content-type": "application/vnd.apache.arrow.stream"}
FETCH_BYTES = 16 << 20
HOUR_MS = 3_600_000
MEGA = 1e6
FIGURES = (
    "append_mb_per_second",
    "aiokafka_send_mb_per_second",
    "append_ratio",
    "read_mb_per_second",
    "aiokafka_read_mb_per_second",
    "read_ratio",
    "append_mb_per_cpu_second",
    "read_mb_per_cpu_second",
)


class Kafka:
    """A broker and the chunks to put there; each round has a topic of its own."""

    def __init__(self, bootstrap: str, chunks: list[bytes], per_append: int) -> None:
        self._connection = KafkaConnection(bootstrap)
        self._chunks = chunks
        self._per_append = per_append
        self._filled = asyncio.run(self._fill())

    def appends(self) -> Work:
        """Append chunks to the log, several per call over all partitions."""

        async def run() -> Work:
            log, topic = await self._made()
            where = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            await log.append([Record(there, b"first") for there in where])
            wall, cpu = time.perf_counter(), cpu_s()
            for start in range(0, len(self._chunks), self._per_append):
                some = self._chunks[start : start + self._per_append]
                await log.append([Record(where[n % PARTITIONS], chunk, HEADERS) for n, chunk in enumerate(some)])
            work = self._work(wall, cpu)
            await log.aclose()
            return work

        return asyncio.run(run())

    def sends(self) -> Work:
        """Send the same chunks, as many at a time, with a producer of aiokafka's."""

        async def run() -> Work:
            log, topic = await self._made()
            await log.aclose()
            producer = AIOKafkaProducer(
                **self._connection.arguments(),
                enable_idempotence=True,
                max_request_size=MAX_MESSAGE_BYTES,
                max_batch_size=MAX_MESSAGE_BYTES,
            )
            await producer.start()
            for number in range(PARTITIONS):
                await producer.send_and_wait(topic, b"first", partition=number)
            headers = [(name, value.encode()) for name, value in HEADERS.items()]
            wall, cpu = time.perf_counter(), cpu_s()
            for start in range(0, len(self._chunks), self._per_append):
                some = self._chunks[start : start + self._per_append]
                for sent in [
                    await producer.send(topic, chunk, partition=n % PARTITIONS, headers=headers)
                    for n, chunk in enumerate(some)
                ]:
                    await sent
            work = self._work(wall, cpu)
            await producer.stop()
            return work

        return asyncio.run(run())

    def fetches(self) -> Work:
        """Fetch all chunks as a new group."""

        async def run() -> Work:
            log = KafkaEventLog(self._connection)
            left = len(self._chunks)
            async with log.subscribe(f"bench-{uuid.uuid4()}", [self._filled]) as member:
                wall, cpu = time.perf_counter(), cpu_s()
                while left > 0:
                    left -= len(await member.fetch(max_bytes=FETCH_BYTES, timeout_s=1))
                work = self._work(wall, cpu)
            await log.aclose()
            return work

        return asyncio.run(run())

    def gets(self) -> Work:
        """Read all chunks with a consumer of aiokafka's."""

        async def run() -> Work:
            consumer = AIOKafkaConsumer(
                **self._connection.arguments(),
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )
            await consumer.start()
            consumer.assign([KafkaTopicPartition(self._filled, number) for number in range(PARTITIONS)])
            left = len(self._chunks)
            wall, cpu = time.perf_counter(), cpu_s()
            while left > 0:
                left -= sum(map(len, (await consumer.getmany(timeout_ms=1_000)).values()))
            work = self._work(wall, cpu)
            await consumer.stop()
            return work

        return asyncio.run(run())

    def _work(self, wall: float, cpu: float) -> Work:
        done = sum(map(len, self._chunks)) / MEGA
        return Work(done, wall_s=time.perf_counter() - wall, cpu_s=cpu_s() - cpu)

    async def _made(self) -> tuple[KafkaEventLog, str]:
        topic = f"bench.{uuid.uuid4()}"
        log = KafkaEventLog(self._connection, [Topic(topic, PARTITIONS, 1, HOUR_MS)])
        await log.partitions(topic)
        return log, topic

    async def _fill(self) -> str:
        log, topic = await self._made()
        for number, chunk in enumerate(self._chunks):
            await log.append([Record(TopicPartition(topic, number % PARTITIONS), chunk, HEADERS)])
        await log.aclose()
        return topic


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--megabytes", type=int, default=48, help="written and read per round (default 48)")
    parser.add_argument("--chunk-bytes", type=int, default=400_000, help="bytes per chunk (default 400000)")
    parser.add_argument("--per-append", type=int, default=8, help="chunks per append (default 8)")
    options = parser.parse_args()
    count = max(1, options.megabytes * 1_000_000 // options.chunk_bytes)
    chunks = [os.urandom(options.chunk_bytes) for _ in range(count)]
    with ExitStack() as ending:
        bootstrap = os.environ.get("SIDETONE_KAFKA_BOOTSTRAP")
        if bootstrap is None:
            folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-")))
            try:
                bootstrap = ending.enter_context(Broker(folder)).bootstrap
            except BrokerUnavailableError as error:
                print(f"no Kafka to measure: {error}", file=sys.stderr)
                report({"chunk_bytes": options.chunk_bytes, **dict.fromkeys(FIGURES)}, options.json)
                return
        kafka = Kafka(bootstrap, chunks, options.per_append)
        contenders: dict[str, Callable[[], Work]] = {
            "append": kafka.appends,
            "send": kafka.sends,
            "read": kafka.fetches,
            "get": kafka.gets,
        }
        medians = rounds(contenders, options.rounds)
    rates = {name: median.per_s for name, median in medians.items()}
    figures = (
        rates["append"],
        rates["send"],
        rates["append"] / rates["send"],
        rates["read"],
        rates["get"],
        rates["read"] / rates["get"],
        medians["append"].per_cpu_s,
        medians["read"].per_cpu_s,
    )
    report({"chunk_bytes": options.chunk_bytes, **dict(zip(FIGURES, figures, strict=True))}, options.json)


if __name__ == "__main__":
    main()
