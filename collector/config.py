"""What a collector can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from collector.migrate import StoreSettings
from eventlog.codec import MAX_CHUNK_ROWS
from eventlog.schema import BY_TOPIC

MAX_BLOCK_ROWS: Final = MAX_CHUNK_ROWS
"""Most rows that ClickHouse takes as one block (its `max_insert_block_size`)."""


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """How a collector plans, inserts and reports.

    Attributes:
        group: consumer group; the collectors of one group share the partitions.
        topics: topics to load.
        max_rows: a range is closed before it exceeds this many rows.
        max_bytes: a range is closed before it exceeds this many bytes of chunks.
        max_age_s: a range is closed when its first message was fetched this long ago.
        ripe_bytes: a range that has this many bytes is closed at the next step, however young: it is worth an insert,
            and its facts are seen sooner.
        fetch_bytes: most bytes taken from the log at once.
        workers: threads that decode and insert; ranges of different partitions run side by side.
        insert_timeout_s: an insert that takes longer counts as failed and is repeated. Keep it below the log's session
            and poll limits.
        retry_max_s: longest wait between two tries while the store is away.
        stop_grace_s: on stop, load what stands in the log for at most this long.
        poison_limit: as many messages in a row that cannot be opened are taken for a bad deployment and halt the
            collector.
        late_after_s: a fact that was observed this long before it was appended counts as late. It is stored as any.
        metrics_host: where `/metrics`, `/healthz` and `/readyz` listen.
        metrics_port: port of it; 0 takes a free one, None serves none.
        metrics_token: what `/metrics` asks for; None lets everybody see them. Give one beyond loopback.
        store: what tables are made with.

    """

    group: str = "sidetone-collector"
    topics: tuple[str, ...] = tuple(BY_TOPIC)
    max_rows: int = MAX_BLOCK_ROWS
    max_bytes: int = 32 << 20
    max_age_s: float = 1.0
    ripe_bytes: int = 4 << 20
    fetch_bytes: int = 16 << 20
    workers: int = 2
    insert_timeout_s: float = 60.0
    retry_max_s: float = 1.0
    stop_grace_s: float = 1.8
    poison_limit: int = 100
    late_after_s: float = 60.0
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    metrics_token: str | None = field(default=None, repr=False)
    store: StoreSettings = field(default_factory=StoreSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ValueError: names the setting and its limits.

        """
        if not 0 < self.max_rows <= MAX_BLOCK_ROWS:
            raise ValueError(f"max_rows is {self.max_rows}; a range must fit one block of 1 to {MAX_BLOCK_ROWS} rows")
        for name in ("max_bytes", "ripe_bytes", "fetch_bytes", "workers", "poison_limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.topics:
            raise ValueError("topics is empty; name at least one topic to load")
