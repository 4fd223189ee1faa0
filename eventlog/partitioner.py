"""Which partition a session's facts go to."""

from __future__ import annotations

import crc32c


def partition_for(session_id: bytes, partitions: int) -> int:
    """Return the partition of a session, the same on every host, in every process and for every topic.

    CRC-32C of the identifier modulo the number of partitions. A log's number of partitions must not change while
    sessions are live: their facts would change partition, and with it lose their order.

    Raises:
        ValueError: `partitions` is not positive.

    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return int(crc32c.crc32c(session_id)) % partitions
