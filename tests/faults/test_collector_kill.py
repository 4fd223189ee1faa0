"""SIGKILL the collector, or the store under it, anywhere: base tables and rollups equal what the source handed over.

Only rounds count in which the fault was seen to strike. Mutations of the collector prove that the oracle can fail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.facts import START_NS, record, sample
from bench.faults.victim import Fault, Victim, run
from collector import Stage, migrate
from eventlog.schema import PACKET, TURN
from eventlog.sqlite import SqliteEventLog
from tests.integration.collector_tools import Store, differences, empty, migrated_store, running_store

DAY_NS = 86_400_000_000_000
SEED = 20_260_921
OBSERVED_PER_KIND = 2
MAX_ROUNDS = 30


@dataclass
class Source:
    """Appends seeded chunks to a log and remembers every row."""

    log: SqliteEventLog
    path: Path
    rng: np.random.Generator
    appended: dict[str, list[pa.RecordBatch]] = field(default_factory=lambda: defaultdict(list))
    sequence: int = 0

    async def append(self, chunks: int) -> None:
        """Packets and, each fourth chunk, turns; every other chunk of the next UTC day."""
        records = []
        for number in range(chunks):
            fact = PACKET if number % 4 else TURN
            at = START_NS + self.sequence * 10**9 + self.sequence % 2 * DAY_NS
            batch = sample(fact, int(self.rng.integers(20, 200)), self.rng, start_ns=at)
            self.appended[fact.name].append(batch)
            records.append(record(fact, batch, source="faults", sequence=self.sequence, partition=self.sequence % 2))
            self.sequence += 1
        await self.log.append(records)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with migrated_store(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    path = tmp_path / "log.sqlite"
    log = SqliteEventLog(path, partitions=2)
    yield Source(log, path, np.random.default_rng(SEED))
    await log.aclose()


async def test_a_collector_killed_at_any_step_loses_and_doubles_nothing(store: Store, source: Source) -> None:
    empty(store.client())
    observed: Counter[str] = Counter()
    for _ in range(MAX_ROUNDS):
        wanted = [
            kind for kind in ("before_insert", "in_mid_insert", "before_commit") if observed[kind] < OBSERVED_PER_KIND
        ]
        if not wanted:
            break
        fault = Fault(
            stage=str({"before_insert": Stage.OPENED, "in_mid_insert": Stage.INSERTING}.get(wanted[0], Stage.INSERTED)),
            count=int(source.rng.integers(1, 4)),
            delay_ms=float(source.rng.uniform(0.5, 8.0)) if wanted[0] == "in_mid_insert" else 0.0,
        )
        await source.append(4)
        observed.update(run(source.path, store.port, fault).struck)
    assert min(observed[kind] for kind in ("before_insert", "in_mid_insert", "before_commit")) >= OBSERVED_PER_KIND
    assert not run(source.path, store.port).killed
    assert differences(store.client(), source.appended) == {}


async def test_a_store_killed_in_mid_insert_loses_and_doubles_nothing(tmp_path: Path, source: Source) -> None:
    port = 0
    refused = 0
    for number in range(2):
        with running_store(tmp_path / "store", port) as store:
            if not port:
                migrate(store.client())
            port = store.port
            await source.append(8)
            victim = Victim(source.path, port, Fault())
            inserting = 0
            while inserting <= number and (stage := victim.next_stage()):
                inserting += stage == Stage.INSERTING
            store.kill()
        with running_store(tmp_path / "store", port) as store:
            refused += victim.finish().stages.count(Stage.REFUSED)
            assert differences(store.client(), source.appended) == {}
    assert refused >= 1


async def test_the_oracle_sees_a_collector_that_skips_the_token(store: Store, source: Source) -> None:
    empty(store.client())
    await source.append(4)
    for mutation in ("skipped_token", "skipped_token"):
        outcome = run(source.path, store.port, Fault(Stage.INSERTED, mutation=mutation))
        assert "before_commit" in outcome.struck
    assert not run(source.path, store.port, Fault(mutation="skipped_token")).killed
    wrong = differences(store.client(), source.appended)
    assert wrong
    assert any("0 rows missing" in text and "0 too many" not in text for text in wrong.values())


async def test_the_oracle_sees_a_collector_that_swallows_an_insert_error(store: Store, source: Source) -> None:
    client = store.client()
    empty(client)
    await source.append(4)
    client.command("RENAME TABLE sidetone.turns TO sidetone.turns_away")
    try:
        assert not run(source.path, store.port, Fault(mutation="swallowed_error")).killed
    finally:
        client.command("RENAME TABLE sidetone.turns_away TO sidetone.turns")
    assert "0 too many" in differences(client, source.appended)["turns"]


async def test_the_oracle_sees_a_recovery_that_trusts_the_base_table(store: Store, source: Source) -> None:
    client = store.client()
    empty(client)
    batch = sample(PACKET, 50, source.rng)
    source.appended[PACKET.name].append(batch)
    await source.log.append([record(PACKET, batch, source="faults", sequence=0)])
    client.command("DETACH TABLE sidetone.packets_1s_mv")
    assert run(source.path, store.port, Fault(Stage.INSERTED)).struck == {"before_commit"}
    client.command("ATTACH TABLE sidetone.packets_1s_mv")
    assert not run(source.path, store.port, Fault(mutation="base_only")).killed
    assert differences(client, source.appended).keys() == {"packets_1s", "packets_1m"}
