"""The topics of the log on Kafka, declared in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eventlog.schema import FACTS

MAX_MESSAGE_BYTES: Final = 8 << 20
"""Largest record. Chunks aim at 256 kB to 1 MB; audio payloads do not compress."""

DEAD_LETTERS: Final = "sidetone.dead-letters"

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: as in the log.
        partitions: a session's facts are in one of them; equal for all fact topics.
        replication: copies of each partition.
        retention_ms: how long messages are kept.

    """

    name: str
    partitions: int
    replication: int
    retention_ms: int

    def configuration(self) -> dict[str, str]:
        """Return the topic's configuration in Kafka's words."""
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MAX_MESSAGE_BYTES + 65_536),
            "compression.type": "producer",  # chunks come compressed
            # The brokers' clock: by a producer's, one that runs an hour fast would be refused for good, and retention,
            # freshness and how long a chunk is remembered would go by clocks that nobody set.
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(max(1, self.replication - 1)),
        }


def declared(*, partitions: int, replication: int, retention_days: float = 7.0) -> list[Topic]:
    """Return all topics: one per fact type, and the dead letters."""
    keep = int(retention_days * _DAY_MS)
    facts = [Topic(fact.topic, partitions, replication, keep) for fact in FACTS.values()]
    return [*facts, Topic(DEAD_LETTERS, 1, replication, max(keep, 30 * _DAY_MS))]
