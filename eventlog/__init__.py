"""The contract: what a fact is, how facts are packed, and the log that keeps them.

The way of a fact: `schema` says what it looks like, `emitter` gathers facts into sorted chunks, `codec` packs a
chunk into bytes and back, `cloudevents` names it, and a backend of the `port` (`sqlite`, `kafka`) keeps it, in order,
for whoever subscribes. While the log is away the emitter's chunks wait in a `spool` on disk.
"""

from eventlog.backlog import Account
from eventlog.cloudevents import ChunkHeader, open_chunk
from eventlog.codec import ChunkError
from eventlog.emitter import Emitter
from eventlog.port import (
    Committed,
    EventLog,
    EventLogError,
    FencedError,
    LogUnavailableError,
    Message,
    OffsetOutOfRangeError,
    Record,
    RefusedError,
    Subscription,
    TopicPartition,
)
from eventlog.schema import FACTS, FactType
from eventlog.sqlite import SqliteEventLog
from eventlog.sqlite_db import LogCorruptError

__all__ = [
    "FACTS",
    "Account",
    "ChunkError",
    "ChunkHeader",
    "Committed",
    "Emitter",
    "EventLog",
    "EventLogError",
    "FactType",
    "FencedError",
    "LogCorruptError",
    "LogUnavailableError",
    "Message",
    "OffsetOutOfRangeError",
    "Record",
    "RefusedError",
    "SqliteEventLog",
    "Subscription",
    "TopicPartition",
    "open_chunk",
]
