"""Roles as processes of their own, as they run in the field, and the packet facts that they left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from eventlog.cloudevents import open_chunk
from eventlog.port import TopicPartition
from eventlog.schema import PACKET
from eventlog.sqlite import SqliteEventLog
from sidetone.endpoints import running
from sidetone.settings import Settings
from tests.integration.stack_tools import command
from tests.integration.transceiver_tools import Client


@contextmanager
def role(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a role; it announces itself when it is ready."""
    environment = {**os.environ, **settings.as_environment()}
    with (settings.data_dir / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(command(*arguments), env=environment, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


async def ready(settings: Settings, *processes: subprocess.Popen[bytes]) -> None:
    """Wait until these processes answer."""
    wanted = {process.pid for process in processes}

    def announced() -> set[int]:
        assert all(process.poll() is None for process in processes), "a role ended"
        return {one.pid for one in running([settings.data_dir])}

    async with asyncio.timeout(60):
        while not wanted <= announced():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.05)


async def call(settings: Settings, region: str) -> tuple[Client, uuid.UUID]:
    """Call the agent by an edge of a region."""
    client = Client()
    url = f"http://{settings.signalling_host}:{settings.signalling_port}/v1/realtime/calls"
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            url, params={"region": region}, content=await client.offer(), headers={"content-type": "application/sdp"}
        )
    assert answer.status_code == 201, answer.text
    await client.accept(answer.text)
    await client.connected()
    return client, uuid.UUID(answer.headers["location"].rpartition("/")[2])


async def packets(path: Path, session: uuid.UUID | None = None, partition: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Packet facts of a call, or of all of a partition, by tap, in order of observation."""
    log = SqliteEventLog(path)
    where = TopicPartition(PACKET.topic, partition)
    rows: list[dict[str, Any]] = []
    offset, end = await log.bounds(where)
    while offset < end:
        for message in await log.read(where, offset, max_bytes=1 << 24):
            batch = open_chunk(message)[2]
            at = batch.schema.get_field_index("observed_ns")
            rows += batch.set_column(at, "observed_ns", batch.column(at).cast("int64")).to_pylist()
            offset = message.offset + 1
    await log.aclose()
    mine = [row for row in rows if session is None or row["session_id"] == session.bytes]
    mine.sort(key=lambda row: int(row["observed_ns"]))
    return {tap: [row for row in mine if row["tap"] == tap] for tap in {row["tap"] for row in mine}}
