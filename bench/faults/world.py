"""A pipeline to break: a broker, a store and a producer, each a process or a thread that a fault can strike.

Facts are handed to a real emitter with a spool; what was handed over, to the last value, is kept for the oracle. Each
round's facts lie around a midnight of their own, so that a round is judged by its window of time, and one more time at
the very end, when whatever a dead process had left running has come down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from bench.facts import sample
from bench.faults.oracle import ROLLUPS, Verdict, Window, judge
from bench.faults.victim import Fault, Outcome, QuickKafkaLog, Victim
from collector import migrate, store_clients
from eventlog import Emitter
from eventlog.audit import Audit, audit
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.schema import PACKET, TURN, FactType
from eventlog.topics import declared
from sidetone.broker import Broker
from sidetone.store.process import StoreProcess

DAY_NS: Final = 86_400_000_000_000
FIRST_NS: Final = 1_672_531_200_000_000_000
"""2023-01-01, a midnight; rounds go on from there, two days each."""
REQUEST_TIMEOUT_MS: Final = 2_000
PATIENCE_S: Final = 60.0
PARTITIONS: Final = 2
HOST: Final = "faults"


class Unsettled(Exception):  # noqa: N818 - a round that proved nothing
    """Something did not come to rest in time."""


@dataclass
class Round:
    """One round's facts as they were handed over."""

    number: int
    source: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: defaultdict(list))

    @property
    def midnight_ns(self) -> int:
        """The midnight that its facts lie around."""
        return FIRST_NS + (2 * self.number + 1) * DAY_NS

    @property
    def window(self) -> Window:
        """Where its facts are, and no other's."""
        return self.midnight_ns - DAY_NS // 2, self.midnight_ns + DAY_NS // 2

    @property
    def rows(self) -> int:
        """How many facts."""
        return sum(batch.num_rows for batches in self.source.values() for batch in batches)


class World:
    """Everything that runs; enter it to start it.

    Args:
        folder: for data.
        seed: everything random follows from it.
        mutation: what is wrong with the collectors, on purpose; empty for nothing.

    """

    def __init__(self, folder: Path, seed: int, mutation: str = "") -> None:
        self.rng = np.random.default_rng(seed)
        self.mutation = mutation
        self.rounds: list[Round] = []
        self.broker = Broker(folder / "broker", properties={"group.min.session.timeout.ms": "500"}, heap_mb=384)
        self._folder = folder
        self._store: StoreProcess | None = None
        self.port = 0
        self._victims: list[Victim] = []

    def __enter__(self) -> Self:
        self.broker.start()
        self.start_store()
        migrate(self.client())
        self.emitter = self.new_emitter("spool")
        return self

    def __exit__(self, *_: object) -> None:
        self.emitter.close(1.0)
        for victim in self._victims:
            victim.kill()
        self.broker.kill()
        self.store.kill()

    @property
    def store(self) -> StoreProcess:
        """The store's process."""
        assert self._store is not None
        return self._store

    def start_store(self) -> None:
        """Start the store on what it had."""
        self._store = StoreProcess(self._folder / "store", self.port)
        self.port = self._store.port

    def client(self) -> Client:
        """Return a client of the store."""
        return store_clients("127.0.0.1", self.port, timeout_s=30)()

    def log(self) -> KafkaEventLog:
        """Open the log, as a producer with a short request timeout."""
        topics = declared(partitions=PARTITIONS, replication=1)
        return QuickKafkaLog(KafkaConnection(self.broker.bootstrap), topics, request_timeout_ms=REQUEST_TIMEOUT_MS)

    def new_emitter(self, spool: str, **options: Any) -> Emitter:
        """Start a producer."""
        emitter = Emitter(
            self.log,
            role="faults",
            region="lab",
            host_id=HOST,
            flush_s=0.02,
            spool_dir=self._folder / spool,
            partitions=PARTITIONS,
            **options,
        )
        emitter.start()
        return emitter

    def begin(self) -> Round:
        """Begin a round."""
        self.rounds.append(Round(len(self.rounds)))
        return self.rounds[-1]

    def emit(self, count: int = 10, pause_s: float = 0.03, emitter: Emitter | None = None) -> None:
        """Hand facts of the present round to a producer, in `count` portions."""
        now = self.rounds[-1]
        for _ in range(count):
            for fact, rows in ((PACKET, int(self.rng.integers(30, 120))), (TURN, int(self.rng.integers(5, 20)))):
                number = len(now.source[fact.name])
                at = now.midnight_ns + (number % 2 * 2 - 1) * (number + 1) * 10**9
                self._hand_over(now, fact, sample(fact, rows, self.rng, start_ns=at), emitter or self.emitter)
            time.sleep(pause_s)

    @staticmethod
    def _hand_over(now: Round, fact: FactType, batch: pa.RecordBatch, emitter: Emitter) -> None:
        at = fact.schema.get_field_index("host_id")
        hosts = pa.array([HOST] * batch.num_rows).dictionary_encode()
        batch = batch.set_column(at, fact.schema.field(at), hosts.cast(fact.schema.field(at).type))
        now.source[fact.name].append(batch)
        names = [name for name in fact.schema.names if name != "host_id"]
        emitter.add_columns(fact, {name: batch.column(name) for name in names}, batch.num_rows)

    def victim(self, fault: Fault | None = None) -> Victim:
        """Start a collector, with the fault that it is to die of."""
        fault = fault or Fault()
        fault = Fault(fault.stage, fault.count, fault.delay_ms, self.mutation)
        self._victims.append(Victim(self.broker.bootstrap, self.port, fault))
        return self._victims[-1]

    def finish(self, victim: Victim) -> Outcome:
        """Wait for a collector's end.

        Raises:
            Unsettled: it does not end.

        """
        hung = threading.Event()

        def give_up() -> None:
            hung.set()
            victim.kill()

        timer = threading.Timer(PATIENCE_S, give_up)
        timer.start()
        try:
            outcome = victim.finish()
        finally:
            timer.cancel()
            self._victims.remove(victim)
        if hung.is_set():
            raise Unsettled(f"a collector hung for {PATIENCE_S:.0f} s after {outcome.stages[-5:]}")
        return outcome

    def settle(self) -> None:
        """Wait until the log has all that was handed over.

        Raises:
            Unsettled: it does not get it.

        """

        def settled() -> bool:
            accounts = self.emitter.accounts()
            return all(
                account.captured == account.emitted and not account.spooled
                for name, account in accounts.items()
                if name in (PACKET.name, TURN.name)
            )

        wait(settled, "the producer has not delivered")

    def recover(self) -> Outcome:
        """Bring everything to rest: what is in the log goes into the store, by a collector that nothing strikes."""
        self.settle()
        return self.finish(self.victim())

    def judge(self) -> Verdict:
        """Hold the present round against the store."""
        return judge(self.client(), self.rounds[-1].source, self.rounds[-1].window)

    def recount(self) -> dict[str, int]:
        """Count the rows of every round again; return by table in how many rounds they are not what was handed over."""
        client = self.client()
        wrong: dict[str, int] = {}
        tables = {"packets": ("observed_ns", "count()"), "turns": ("observed_ns", "count()")}
        tables |= {table: (keys[-1], "sum(packets)") for table, keys in ROLLUPS.items()}
        for table, (column, counted) in tables.items():
            number = f"intDiv(toUnixTimestamp({column}) - {(FIRST_NS + DAY_NS // 2) // 10**9}, {2 * DAY_NS // 10**9})"
            rows = client.query(f"SELECT {number}, {counted} FROM sidetone.{table} GROUP BY 1").result_rows
            found: dict[int, int] = {int(row[0]): int(row[1]) for row in rows}
            name = TURN.name if table == "turns" else PACKET.name
            wanted = {now.number: sum(batch.num_rows for batch in now.source[name]) for now in self.rounds}
            bad = [key for key in wanted.keys() | found.keys() if wanted.get(key, 0) != found.get(key, 0)]
            if bad:
                wrong[table] = len(bad)
        return wrong

    def audit(self) -> Audit:
        """Read from the log what the producers say; the producer has ended then."""
        self.emitter.close(PATIENCE_S)

        async def read() -> Audit:
            log = self.log()
            try:
                return await audit(log)
            finally:
                await log.aclose()

        return asyncio.run(read())


def wait(holds: Callable[[], bool], otherwise: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until something holds.

    Raises:
        Unsettled: it does not in time.

    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise Unsettled(f"{otherwise} within {timeout_s:.0f} s")
        time.sleep(0.02)


def stop(pid: int) -> None:
    """SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)
