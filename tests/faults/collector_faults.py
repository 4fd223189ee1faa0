"""A collector in a process of its own that dies at a chosen step, and what the rounds of faults share.

The victim loads a log into a store until the log's end, tells every stage as it passes it, and kills itself
with SIGKILL where it was told to. Victims are forked from a server that has the modules loaded, which saves each of
them a second of imports.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from collector import Collector, CollectorConfig, Progress, Stage, store_clients
from eventlog.sqlite import SqliteEventLog

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

    def __init__(self, log: Path, port: int, fault: Fault) -> None:
        self._hears, tells = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_victim, args=(str(log), port, fault, tells), daemon=True)
        self._process.start()
        tells.close()
        self._stages: list[str] = []

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


def run(log: Path, port: int, fault: Fault | None = None) -> Outcome:
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
    """Mutation: a block is not sent again once its base table has rows, as a naive recovery would decide."""

    def mutated() -> Client:
        client = make()
        insert = client.raw_insert

        def raw_insert(table: str, **options: Any) -> Any:
            if not client.query(f"SELECT 1 FROM {table} LIMIT 1").result_rows:
                return insert(table, **options)
            return None

        vars(client)["raw_insert"] = raw_insert
        return client

    return mutated


MUTATIONS = {"skipped_token": without_token, "swallowed_error": swallowing, "base_only": skipping_what_the_base_has}


def _victim(log_file: str, port: int, fault: Fault, tells: Connection) -> None:
    asyncio.run(_load(log_file, port, fault, tells))


async def _load(log_file: str, port: int, fault: Fault, tells: Connection) -> None:
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
    log = SqliteEventLog(log_file)
    config = CollectorConfig(max_rows=400, workers=2, retry_max_s=0.1)
    await Collector(log, clients, config, observers=[watch]).drain()
    await log.aclose()
