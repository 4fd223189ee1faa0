"""A collector as a process runs it: tables first, then the loop, with metrics, health and lag beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import clickhouse_connect
import stamina
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from collector.collector import Collector
from collector.config import CollectorConfig
from collector.endpoint import Endpoint
from collector.metrics import Health, Metrics
from collector.migrate import migrate
from collector.progress import Progress, Stage
from collector.writer import ClientFactory
from eventlog.port import EventLog, EventLogError

log = structlog.get_logger("sidetone.collector")

LAG_EVERY_S: Final = 5.0
STUCK_AFTER_S: Final = 120.0
"""Without a step for this long (twice the time an insert may take), the event loop is stuck."""


def store_clients(
    host: str, port: int, *, timeout_s: float, user: str = "default", password: str = ""
) -> ClientFactory:
    """Return what makes clients of a store: no session, so that a repeated insert never waits for its first try's."""

    def make() -> Client:
        return clickhouse_connect.get_client(
            host=host,
            port=port,
            username=user,
            password=password,
            compress=False,
            connect_timeout=5,
            send_receive_timeout=int(timeout_s),
            autogenerate_session_id=False,
        )

    return make


async def run_collector(
    config: CollectorConfig,
    open_log: Callable[[], EventLog],
    store_host: str,
    store_port: int,
    stop: asyncio.Event,
    *,
    store_user: str = "default",
    store_password: str = "",
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Bring the tables up to date and load the log into the store until `stop`, then what is left of it.

    Args:
        config: limits and names.
        open_log: opens the event log; it is closed here.
        store_host: host of ClickHouse's HTTP interface.
        store_port: port of it.
        stop: ends the collector when set.
        store_user: who may make the tables and insert.
        store_password: of that user.
        on_ready: called once, when tables are up to date and the group is joined.

    Raises:
        CollectorHaltedError: it needs a person; the message says what for.

    """
    metrics, health = Metrics(), Health()
    clients = store_clients(
        store_host, store_port, timeout_s=config.insert_timeout_s, user=store_user, password=store_password
    )
    announced = False

    def announce(progress: Progress) -> None:
        nonlocal announced
        if on_ready is not None and not announced and progress.stage is Stage.TAKEN_OVER:
            announced = True
            on_ready()

    with ExitStack() as stack:
        if config.metrics_port is not None:
            endpoint = Endpoint(
                (config.metrics_host, config.metrics_port),
                metrics.registry,
                lambda: _stuck(collector) if health.migrated else "",
                health.not_ready,
                config.metrics_token,
            )
            stack.enter_context(endpoint)
            log.info("metrics and health", url=f"http://{config.metrics_host}:{endpoint.port}/metrics")
        event_log = open_log()
        collector = Collector(event_log, clients, config, observers=(metrics.observe, health.observe, announce))
        watch: asyncio.Task[None] | None = None
        try:
            if await _migrate(clients, config, health, stop):
                watch = asyncio.create_task(_watch_lag(collector, metrics))
                await collector.run(stop)
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            await event_log.aclose()


def _stuck(collector: Collector) -> str:
    silent_s = time.monotonic() - collector.alive_at
    return f"no step for {silent_s:.0f} s" if silent_s > STUCK_AFTER_S else ""


async def _migrate(clients: ClientFactory, config: CollectorConfig, health: Health, stop: asyncio.Event) -> bool:
    """Bring the tables up to date, however long the store is away; False if told to stop before that."""
    # Not the loop's own threads, whose end the loop's end would wait for: a store may take a minute not to answer.
    thread = ThreadPoolExecutor(1, thread_name_prefix="migrate")
    migrating = asyncio.ensure_future(_migrated(clients, config, health, thread))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({migrating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not migrating.done():
            return False
        migrating.result()
    finally:
        for task in (migrating, stopping):
            task.cancel()
        await asyncio.gather(migrating, stopping, return_exceptions=True)
        thread.shutdown(wait=False, cancel_futures=True)
    health.problem = ""
    health.migrated = True
    return True


async def _migrated(
    clients: ClientFactory, config: CollectorConfig, health: Health, thread: ThreadPoolExecutor
) -> None:
    def apply() -> None:
        migrate(clients(), config.store)

    def keep_trying(error: Exception) -> bool:
        health.problem = f"the store is away: {error}"
        return isinstance(error, ClickHouseError | OSError)

    async for attempt in stamina.retry_context(
        on=keep_trying, attempts=None, timeout=None, wait_initial=0.1, wait_max=config.retry_max_s, wait_jitter=0.1
    ):
        with attempt:
            await asyncio.get_running_loop().run_in_executor(thread, apply)


async def _watch_lag(collector: Collector, metrics: Metrics) -> None:
    while True:
        try:
            metrics.show_lag(await collector.lag())
        except EventLogError as error:
            metrics.show_lag({})
            log.debug("lag unknown", detail=str(error))
        await asyncio.sleep(LAG_EVERY_S)
