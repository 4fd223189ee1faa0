"""Producers for the rounds of faults: real emitters with short limits, what hands facts to them, and waiting."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from bench.faults.victim import QuickKafkaLog, silence
from eventlog import Emitter
from eventlog.kafka import KafkaEventLog
from eventlog.kafka_clients import KafkaConnection
from eventlog.schema import FACTS
from eventlog.topics import declared

REQUEST_TIMEOUT_MS: Final = 2_000
PATIENCE_S: Final = 180.0
PARTITIONS: Final = 2
HOST: Final = "faults"


class Unsettled(Exception):  # noqa: N818 - a round that proved nothing
    """Something did not come to rest in time."""


def open_kafka(bootstrap: str) -> KafkaEventLog:
    """Open the log."""
    topics = declared(partitions=PARTITIONS, replication=1)
    return QuickKafkaLog(KafkaConnection(bootstrap), topics, request_timeout_ms=REQUEST_TIMEOUT_MS)


def make_emitter(bootstrap: str, spool_dir: Path, **options: Any) -> Emitter:
    """Return a producer with a short request timeout."""
    return Emitter(
        partial(open_kafka, bootstrap),
        role="faults",
        region="lab",
        host_id=HOST,
        flush_s=0.02,
        spool_dir=spool_dir,
        partitions=PARTITIONS,
        **options,
    )


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


def hand_over(emitter: Emitter, facts: list[tuple[str, pa.RecordBatch]]) -> None:
    """Give facts to a producer."""
    for name, batch in facts:
        columns = {column: batch.column(column) for column in batch.schema.names if column != "host_id"}
        emitter.add_columns(FACTS[name], columns, batch.num_rows)


def spool_and_die(bootstrap: str, folder: Path, portions: list[list[tuple[str, pa.RecordBatch]]]) -> None:
    """Be a producer that cannot reach the log, puts everything on disk, and is killed."""
    silence()
    emitter = make_emitter(bootstrap, folder)
    emitter.start()
    for portion in portions:
        hand_over(emitter, portion)
        time.sleep(0.05)
    wanted = sum(batch.num_rows for portion in portions for _, batch in portion)
    wait(lambda: sum(account.spooled for account in emitter.accounts().values()) >= wanted, "not everything is on disk")
    os.kill(os.getpid(), signal.SIGKILL)


def stop(pid: int) -> None:
    """SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)
