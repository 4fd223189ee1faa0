"""What a message must be to be stored: a valid chunk, of sessions that are sessions and times that can be times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eventlog.cloudevents import ChunkHeader, open_chunk
from eventlog.codec import ChunkError
from eventlog.port import Message
from eventlog.schema import NO_SESSION, FactType

DAY_NS: Final = 86_400_000_000_000
MAX_CHUNK_DAYS: Final = 31
"""A chunk holds a fraction of a second of facts. One that spreads over more days than this has broken clocks, and
would become as many parts on disk."""

EARLIEST_NS: Final = 946_684_800_000_000_000
"""2000-01-01: a clock before this was never set. Facts may be as late as they like, but not that early."""

AHEAD_NS: Final = 731 * DAY_NS
"""A fact observed this long after the log took it has a broken clock; it would stand in tables that retention never
reaches."""

_VERSION: Final = 7
_VARIANT: Final = 0b10

Batch = pa.RecordBatch


class Refused(Exception):  # noqa: N818 - a verdict on a message, not our failure
    """A message that cannot be stored. `reason` is for machines and dead letters, `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep both parts; the message is `reason: detail`."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def open_message(message: Message) -> tuple[FactType, ChunkHeader, list[tuple[int, Batch]]]:
    """Verify and decode a message; return its type, its header and its rows by UTC day.

    Raises:
        Refused: it cannot be stored; nothing else is raised for whatever it holds.

    """
    try:
        fact, header, batch = open_chunk(message)
    except ChunkError as error:
        raise Refused(error.reason, error.detail) from error
    _check_sessions(batch)
    return fact, header, split_days(batch, message.appended_ns)


def split_days(batch: Batch, appended_ns: int) -> list[tuple[int, Batch]]:
    """Return the batch's rows by UTC day of `observed_ns` (days since the epoch), each in the batch's order.

    Raises:
        Refused: `bad_time`, for a clock that was never set, one far ahead of the log's, or too many days in one chunk.

    """
    observed: Any = batch.column("observed_ns").cast(pa.int64())
    earliest, latest = pc.min(observed).as_py(), pc.max(observed).as_py()
    if earliest < EARLIEST_NS:
        raise Refused("bad_time", f"observed on {iso(earliest // DAY_NS)}: the clock was never set")
    if latest > appended_ns + AHEAD_NS:
        raise Refused(
            "bad_time", f"observed on {iso(latest // DAY_NS)}, but in the log since {iso(appended_ns // DAY_NS)}"
        )
    first, last = earliest // DAY_NS, latest // DAY_NS
    if first == last:
        return [(first, batch)]
    day_of: Any = pc.divide(observed, DAY_NS)
    days: list[int] = sorted(pc.unique(day_of).to_pylist())
    if len(days) > MAX_CHUNK_DAYS:
        detail = f"facts of {len(days)} days from {iso(first)} to {iso(last)} in one chunk, at most {MAX_CHUNK_DAYS}"
        raise Refused("bad_time", detail)
    return [(day, batch.filter(pc.equal(day_of, pa.scalar(day, pa.int64())))) for day in days]


def iso(day: int) -> str:
    """Return a day since the epoch as people write it."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()


def _check_sessions(batch: Batch) -> None:
    """Refuse what is neither a UUIDv7 (RFC 9562, 5.7: version 7, variant 10) nor the process's own."""
    column: Any = batch.column("session_id")
    data = np.frombuffer(column.buffers()[1], np.uint8, 16 * len(column), 16 * column.offset).reshape(-1, 16)
    good = (data[:, 6] >> 4 == _VERSION) & (data[:, 8] >> 6 == _VARIANT)
    if good.all():
        return
    for value in {bytes(row) for row in np.unique(data[~good], axis=0)}:
        if value != NO_SESSION:
            raise Refused("bad_session", f"session_id {value.hex()} is not a UUIDv7")
