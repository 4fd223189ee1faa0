"""A collector that is told to end while its store hangs: it ends, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from bench.facts import record, sample
from collector import CollectorConfig
from eventlog.port import TopicPartition
from eventlog.schema import TURN
from eventlog.sqlite import SqliteEventLog
from sidetone.settings import Settings
from sidetone.store.process import StoreProcess
from tests.integration.collector_tools import committed, until
from tests.integration.stack_tools import processes_of, running, settings_in

ENDS_S = 30
"""Half of the time after which a client gives up a store that does not answer; on a busy machine, too."""


@contextmanager
def hanging(store: StoreProcess) -> Iterator[None]:
    """Let the store take connections and answer none."""
    os.kill(store.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store.process.pid, signal.SIGCONT)


def answers(settings: Settings, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{settings.collector_port}{path}").status_code == 200
    except httpx.HTTPError:
        return False


async def test_an_insert_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    settings.make_data_dir()
    log = SqliteEventLog(settings.log_file)
    where = TopicPartition(TURN.topic, 0)
    with StoreProcess(tmp_path / "store", settings.store_port) as store:
        with running(["collector"], settings.as_environment()) as process:
            await until(lambda: answers(settings, "/readyz"))
            member = log.subscribe(CollectorConfig().group, [TURN.topic])  # positions can be read without joining
            with hanging(store):
                await log.append([record(TURN, sample(TURN, 12, np.random.default_rng(1)), source="s", sequence=0)])
                async with asyncio.timeout(60):
                    while not ((at := await member.committed(where)) and at.metadata):  # noqa: ASYNC110 - nothing tells
                        await asyncio.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, ENDS_S) == 0
            await member.aclose()
        assert processes_of(settings.data_dir) == []
        with running(["collector"], settings.as_environment()) as process:
            await committed(log, CollectorConfig(topics=(TURN.topic,)))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, ENDS_S) == 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{store.port}") as http:
            assert (await http.post("/", content="SELECT count() FROM sidetone.turns")).text == "12\n"
    await log.aclose()


async def test_tables_that_cannot_be_looked_at_do_not_hold_up_the_end(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with StoreProcess(tmp_path / "store", settings.store_port) as store, hanging(store):  # noqa: SIM117 - order matters
        with running(["collector"], settings.as_environment()) as process:
            await until(lambda: answers(settings, "/healthz"))
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, ENDS_S) == 0
