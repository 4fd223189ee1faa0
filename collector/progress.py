"""What a collector tells about its work, step by step: metrics, health and fault tests all listen here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from collector.blocks import Block, Opened
from collector.ranges import Intent
from eventlog.port import TopicPartition


class Stage(StrEnum):
    """The steps of one range, in their order, and what may come between.

    `INTENDED` → `OPENED` → (`INSERTING` → [`REFUSED` → `INSERTING`]… → `INSERTED`) for each block → `COMMITTED`.
    """

    INTENDED = "intended"
    """The log has the intent; nothing is inserted yet."""
    OPENED = "opened"
    """The range is verified and decoded."""
    INSERTING = "inserting"
    """A block is about to be sent."""
    REFUSED = "refused"
    """The store did not confirm a block; it will be sent again."""
    INSERTED = "inserted"
    """The store confirmed a block."""
    COMMITTED = "committed"
    """The log's position has passed the range."""
    TAKEN_OVER = "taken_over"
    """The group's positions were read; work starts there, with the ranges that an earlier run left open."""
    FENCED = "fenced"
    """Another member owns the partitions; all work on them was dropped."""
    EXPIRED = "expired"
    """The log's retention deleted messages before they were loaded."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step.

    Attributes:
        stage: which.
        where: the partition, where it is about one.
        intent: the range, where it is about one.
        opened: the range's content, from `OPENED` on.
        block: for the stages of one insert.
        error: what the store, the group or the log said.
        kind: of the error, for counting (`unreachable`, or ClickHouse's name for it).
        count: messages expired, or ranges found open at the take-over.
        partitions: owned after a take-over.

    """

    stage: Stage
    where: TopicPartition | None = None
    intent: Intent | None = None
    opened: Opened | None = None
    block: Block | None = None
    error: str = ""
    kind: str = ""
    count: int = 0
    partitions: int = 0


Observer = Callable[[Progress], None]
"""Called on the collector's event loop between two steps; it must be quick and must not raise."""
