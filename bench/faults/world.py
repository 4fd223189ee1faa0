"""A pipeline to break: a broker, a store and a producer, each a process or a thread that a fault can strike.

Facts are handed to a real emitter with a spool; what was handed over, to the last value, is kept for the oracle. Each
round's facts lie around a midnight of their own, so that a round is judged by its window of time, and one more time at
the very end, when whatever a dead process had left running has come down.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from bench.facts import sample
from bench.faults.oracle import ROLLUPS, Verdict, Window, judge, source_rows
from bench.faults.producers import HOST, PARTITIONS, PATIENCE_S, Unsettled, hand_over, make_emitter, open_kafka, wait
from bench.faults.victim import Fault, Outcome, Victim
from collector import migrate, store_clients
from eventlog import Emitter, open_chunk
from eventlog.audit import Audit, audit
from eventlog.kafka import KafkaEventLog
from eventlog.port import TopicPartition
from eventlog.schema import PACKET, TURN
from sidetone.broker import Broker
from sidetone.store.process import StoreProcess

DAY_NS: Final = 86_400_000_000_000
FIRST_NS: Final = 1_672_531_200_000_000_000
"""2023-01-01, a midnight; rounds go on from there, two days each."""


@dataclass
class Round:
    """One round's facts as they were handed over."""

    number: int
    source: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    shed: dict[str, int] | None = None
    """Rows by type that the producer says it shed; None where every row handed over must be stored. A type that is not
    named may have lost any number, on a disk that was torn."""

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
        self.full_disk = ""
        """How a disk was made full, if one was."""
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
        """Open the log."""
        return open_kafka(self.broker.bootstrap)

    def new_emitter(self, spool: str, **options: Any) -> Emitter:
        """Start a producer with a folder for its spool."""
        emitter = make_emitter(self.broker.bootstrap, self.spool(spool), **options)
        emitter.start()
        return emitter

    def spool(self, name: str) -> Path:
        """Return a folder for a spool."""
        return self._folder / name

    def begin(self) -> Round:
        """Begin a round."""
        self.rounds.append(Round(len(self.rounds)))
        return self.rounds[-1]

    def emit(self, count: int = 10, pause_s: float = 0.03, emitter: Emitter | None = None) -> None:
        """Hand facts of the present round to a producer, in `count` portions."""
        for _ in range(count):
            hand_over(emitter or self.emitter, self.facts())
            time.sleep(pause_s)

    def facts(self) -> list[tuple[str, pa.RecordBatch]]:
        """Make a portion of facts, and keep them for the oracle."""
        now, made = self.rounds[-1], []
        for fact, rows in ((PACKET, int(self.rng.integers(30, 120))), (TURN, int(self.rng.integers(5, 20)))):
            number = len(now.source[fact.name])
            at = now.midnight_ns + (number % 2 * 2 - 1) * (number + 1) * 10**9
            batch = sample(fact, rows, self.rng, start_ns=at)
            host = fact.schema.get_field_index("host_id")
            hosts = pa.array([HOST] * batch.num_rows).dictionary_encode()
            batch = batch.set_column(host, fact.schema.field(host), hosts.cast(fact.schema.field(host).type))
            now.source[fact.name].append(batch)
            made.append((fact.name, batch))
        return made

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
        now = self.rounds[-1]
        if now.shed is not None:
            handed = now.source
            now.source = asyncio.run(self._logged(now))
            _check_shed(handed, now.source, now.shed)
        return judge(self.client(), now.source, now.window)

    def mark(self) -> None:
        """Note where the log ends now, for a round that sheds: its facts are those that come after."""
        self.rounds[-1].starts = asyncio.run(self._ends())

    def undelivered(self) -> int:
        """Return how many of the present round's facts the log does not have."""
        logged = asyncio.run(self._logged(self.rounds[-1]))
        return self.rounds[-1].rows - sum(batch.num_rows for batches in logged.values() for batch in batches)

    async def _ends(self) -> dict[TopicPartition, int]:
        log = self.log()
        try:
            wheres = [TopicPartition(fact.topic, n) for fact in (PACKET, TURN) for n in range(PARTITIONS)]
            return {where: (await log.bounds(where))[1] for where in wheres}
        finally:
            await log.aclose()

    async def _logged(self, now: Round) -> dict[str, list[pa.RecordBatch]]:
        """Return what a round's producers brought into the log, each chunk once."""
        log, seen = self.log(), set[tuple[str, str, int]]()
        found: dict[str, list[pa.RecordBatch]] = {PACKET.name: [], TURN.name: []}
        try:
            for where, start in now.starts.items():
                offset, end = start, (await log.bounds(where))[1]
                while offset < end:
                    for message in await log.read(where, offset, max_bytes=1 << 24):
                        offset = message.offset + 1
                        fact, header, batch = open_chunk(message)
                        name = (header.source, header.type, header.sequence)
                        if name not in seen:
                            seen.add(name)
                            found[fact.name].append(batch)
        finally:
            await log.aclose()
        return found

    def recount(self) -> dict[str, int]:
        """Count the rows of every round again; return by table in how many rounds they are not what was handed over."""
        client = self.client()
        wrong: dict[str, int] = {}
        tables = {"packets": ("observed_ns", "count()"), "turns": ("observed_ns", "count()")}
        tables |= {table: (keys[-1], "sum(kept)") for table, keys in ROLLUPS.items()}
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


def _check_shed(
    handed: dict[str, list[pa.RecordBatch]], logged: dict[str, list[pa.RecordBatch]], shed: dict[str, int]
) -> None:
    """Check that the log has what was handed over, less what the producer says it shed.

    Raises:
        Unsettled: it does not.

    """
    for fact in (PACKET, TURN):
        wanted, found = Counter(source_rows(fact, handed[fact.name])), Counter(source_rows(fact, logged[fact.name]))
        strange, missing = (found - wanted).total(), (wanted - found).total()
        if strange or missing != shed.get(fact.name, missing):
            raise Unsettled(
                f"the log has {strange} {fact.name} facts that nobody handed over and misses {missing}, "
                f"the producer says that it shed {shed.get(fact.name)}"
            )
