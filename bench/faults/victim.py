"""A collector in a process of its own that dies at a chosen step, and what the rounds of faults share.

The victim loads a log into a store until the log's end, tells every stage as it passes it, and kills itself
with SIGKILL where it was told to. Victims are forked from a server that has the modules loaded, which saves each of
them a second of imports.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from collector import Collector, CollectorConfig, Progress, Stage, store_clients
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.kafka_group import KafkaSubscription
from eventlog.port import EventLog
from eventlog.schema import PACKET, TURN
from eventlog.sqlite import SqliteEventLog

SESSION_TIMEOUT_MS = 1_500
"""A member of the group that is silent for this long is out: short, so that rounds are."""
POLL_LIMIT_MS = 3_000

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Fault:
    """When to die: at the `count`-th time of `stage`, `delay_ms` after it. An empty stage never comes."""

    stage: str = ""
    count: int = 1
    delay_ms: float = 0.0
    mutation: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a victim ended: by SIGKILL or not, and the stages that it had passed."""

    killed: bool
    stages: tuple[str, ...]

    @property
    def struck(self) -> frozenset[str]:
        """Where in the protocol it died; with two ranges under way it may be two places at once."""
        if not self.killed:
            return frozenset()
        # A commit closes a round; what came since is what the death tore.
        last = max((at for at, stage in enumerate(self.stages) if stage == Stage.COMMITTED), default=-1)
        torn = Counter(self.stages[last + 1 :])
        places = {
            "in_mid_insert": torn[Stage.INSERTING] > torn[Stage.INSERTED] + torn[Stage.REFUSED],
            "before_commit": torn[Stage.INSERTED] > 0,
            "before_insert": torn[Stage.INTENDED] > 0 and torn[Stage.INSERTING] == 0,
        }
        return frozenset(place for place, there in places.items() if there)


class Victim:
    """A collector's process, started at once."""

    def __init__(self, log: Path | str, port: int, fault: Fault) -> None:
        """Start it on a log, which is a file's path or Kafka's bootstrap address, and the store's port."""
        self._hears, tells = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_victim, args=(log, port, fault, tells), daemon=True)
        self._process.start()
        tells.close()
        self._stages: list[str] = []

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid or 0

    def passes(self, stage: str, timeout_s: float = 30.0) -> bool:
        """Wait until it passes a stage; False if it ended before, or took too long."""
        deadline = time.monotonic() + timeout_s
        while self._hears.poll(max(0.0, deadline - time.monotonic())):
            passed = self.next_stage()
            if passed == stage:
                return True
            if not passed:
                break
        return False

    def kill(self) -> None:
        """SIGKILL, and wait; for when a round has gone wrong."""
        self._process.kill()
        self._process.join()

    def next_stage(self) -> str:
        """Return the next stage that it passes, or an empty string at its end."""
        try:
            stage = self._hears.recv_bytes().decode()
        except EOFError:
            return ""
        self._stages.append(stage)
        return stage

    def finish(self) -> Outcome:
        """Wait for its end."""
        while self.next_stage():
            pass
        self._process.join(60)
        code = self._process.exitcode
        if code not in {0, -signal.SIGKILL}:
            raise AssertionError(f"the collector failed with {code}")
        return Outcome(code != 0, tuple(self._stages))


def run(log: Path | str, port: int, fault: Fault | None = None) -> Outcome:
    """Run a collector to its end or its fault."""
    return Victim(log, port, fault or Fault()).finish()


def without_token(make: Callable[[], Client]) -> Callable[[], Client]:
    """Mutation: inserts carry no token, and the store is told not to compare blocks."""

    def mutated() -> Client:
        client = make()
        insert: Any = client.raw_insert

        def raw_insert(*args: Any, settings: dict[str, Any], **options: Any) -> Any:
            kept = {name: value for name, value in settings.items() if name != "insert_deduplication_token"}
            kept |= {"deduplicate_insert_select": "disable", "deduplicate_insert": "disable", "insert_deduplicate": 0}
            return insert(*args, settings=kept, **options)

        vars(client)["raw_insert"] = raw_insert
        return client

    return mutated


def swallowing(make: Callable[[], Client]) -> Callable[[], Client]:
    """Mutation: an insert that failed is taken for done."""

    def mutated() -> Client:
        client = make()
        insert = client.raw_insert

        def raw_insert(*args: Any, **options: Any) -> Any:
            with suppress(ClickHouseError, OSError):
                return insert(*args, **options)

        vars(client)["raw_insert"] = raw_insert
        return client

    return mutated


def skipping_what_the_base_has(make: Callable[[], Client]) -> Callable[[], Client]:
    """Mutation: a block is not sent again once its base table has its rows, as a naive recovery would decide."""

    def mutated() -> Client:
        client = make()
        insert = client.raw_insert

        def raw_insert(table: str, *, insert_block: Any, **options: Any) -> Any:
            with pa.ipc.open_stream(insert_block) as reader:
                first: Any = reader.read_next_batch().slice(0, 1).to_pydict()
            if "session_id" in first:
                session, at = uuid.UUID(bytes=first["session_id"][0]), first["observed_ns"][0].value
                same = f"session_id = '{session}' AND toUnixTimestamp64Nano(observed_ns) = {at}"
                if client.command(f"SELECT count() FROM {table} WHERE {same}"):
                    return None
            return insert(table, insert_block=insert_block, **options)

        vars(client)["raw_insert"] = raw_insert
        return client

    return mutated


MUTATIONS = {"skipped_token": without_token, "swallowed_error": swallowing, "base_only": skipping_what_the_base_has}


class QuickKafkaLog(KafkaEventLog):
    """Kafka with short limits, within which a member has to give signs of life and to fetch."""

    def subscribe(self, group: str, topics: Sequence[str]) -> KafkaSubscription:
        """Return a member of `group`."""
        return KafkaSubscription(
            self.connection.arguments(),
            group,
            topics,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            max_poll_interval_ms=POLL_LIMIT_MS,
        )


def open_log(log: Path | str) -> EventLog:
    """Open the log that a path or a bootstrap address names."""
    return SqliteEventLog(log) if isinstance(log, Path) else QuickKafkaLog(KafkaConnection(log))


def silence() -> None:
    """Have this process log nothing, or into the file that SIDETONE_FAULTS_LOG names: faults are no news here."""
    path = os.environ.get("SIDETONE_FAULTS_LOG", os.devnull)
    file = Path(path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open till the end
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))
    logging.basicConfig(stream=file, format="%(asctime)s %(process)d %(message)s", level=logging.INFO)
    if path == os.devnull:
        logging.disable(logging.CRITICAL)


def _victim(log: Path | str, port: int, fault: Fault, tells: Connection) -> None:
    silence()
    asyncio.run(_load(log, port, fault, tells))


async def _load(where: Path | str, port: int, fault: Fault, tells: Connection) -> None:
    seen = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(progress: Progress) -> None:
        nonlocal seen
        tells.send_bytes(progress.stage.encode())
        seen += progress.stage == fault.stage
        if progress.stage == fault.stage and seen == fault.count:
            if not fault.delay_ms:
                die()
            timer = threading.Timer(fault.delay_ms / 1000, die)
            timer.daemon = True
            timer.start()

    clients = store_clients("127.0.0.1", port, timeout_s=30)
    if fault.mutation:
        clients = MUTATIONS[fault.mutation](clients)
    log = open_log(where)
    config = CollectorConfig(topics=(PACKET.topic, TURN.topic), max_rows=400, workers=2, retry_max_s=0.1)
    await Collector(log, clients, config, observers=[watch]).drain()
    await log.aclose()
