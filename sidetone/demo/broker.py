"""The demo's event log when that is Kafka: a broker of its own beside the stack, or one that was given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from eventlog.port import EventLogError, TopicPartition
from eventlog.schema import FACTS
from sidetone import process
from sidetone.ports import free_port
from sidetone.roles import log_opener
from sidetone.settings import Settings, SettingsError
from sidetone.stack.child import Child
from sidetone.stack.plan import Part

_READY_S = 600.0
"""The first start on a machine fetches Kafka."""


@contextlib.asynccontextmanager
async def with_broker(
    settings: Settings, stop: asyncio.Event, report: Callable[[str], None]
) -> AsyncIterator[Settings]:
    """Yield the settings to go by; with Kafka and no broker given, one runs meanwhile, its data in the data dir.

    Raises:
        SettingsError: the broker that was given cannot be used.
        StackError: a broker of our own did not start.

    """
    if settings.log != "kafka":
        yield settings
        return
    if settings.kafka_bootstrap is not None:
        await _check_empty(settings)
        yield settings
        return
    settings = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_port()}"})
    logs = settings.data_dir / "logs"
    logs.mkdir(exist_ok=True)
    part = Part("broker", ("broker",), starts=0, stops=5, grace_s=15.0)
    broker = Child(part, settings.as_environment(), logs / "broker.log")
    try:
        await process.until(stop, broker.start(_READY_S))
        report(f"broker is ready at {settings.kafka_bootstrap}")
        yield settings
    finally:
        await broker.stop()


async def _check_empty(settings: Settings) -> None:
    """Refuse a log with facts in it: the account at the end is of the whole log."""
    log = log_opener(settings)()
    try:
        for fact in FACTS.values():
            for partition in range(await log.partitions(fact.topic)):
                first, end = await log.bounds(TopicPartition(fact.topic, partition))
                if first < end:
                    raise SettingsError(
                        f"{fact.topic} at {settings.kafka_bootstrap} holds facts already, and a demo accounts for all "
                        "that is in its log: delete the topics sidetone.* there, or leave SIDETONE_KAFKA_BOOTSTRAP "
                        "unset for a broker of the demo's own"
                    )
    except EventLogError as error:
        raise SettingsError(str(error)) from None
    finally:
        await log.aclose()
