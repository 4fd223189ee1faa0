"""Writing: one block becomes rows in the store, once in effect, however often it is sent with its token.

Blocking; meant for worker threads. Every setting that decides over deduplication is sent with every insert, because
their defaults changed between ClickHouse releases (`async_insert` among them).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from collector.blocks import Block
from collector.ledger import KEEP_NS, Ledger
from eventlog.port import TopicPartition

DATABASE: Final = "sidetone"

ClientFactory = Callable[[], Client]

INSERT_SETTINGS: Final[dict[str, int | str]] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # A failed view must fail the insert, or its rollup would miss rows that the log then passes.
    "materialized_views_ignore_errors": 0,
    # One stream in, one block out: a block that is split would be known by other tokens on its second way in.
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": 1_048_449,
    "min_insert_block_size_rows": 1_048_449,
    "min_insert_block_size_bytes": 1 << 30,
}

RELEASE_SETTINGS: Final[dict[str, int | str]] = {
    # Supersede `insert_deduplicate` where they exist (seen in ClickHouse 26.9); the second is for a store that runs an
    # insert as INSERT SELECT.
    "deduplicate_insert": "enable",
    "deduplicate_insert_select": "force_enable",
    "max_insert_block_size_bytes": 0,
    "use_strict_insert_block_limits": 0,
    # On a cluster: confirmed means that every shard has its part.
    "distributed_foreground_insert": 1,
}
"""Sent only to stores that know them."""


TAKEN: Final = """
    SELECT topic, partition, ce_source, ce_type, groupArray(page), groupArray(bits), max(last)
    FROM
    (
        SELECT
            topic, partition, ce_source, ce_type, intDiv(ce_sequence, 64) AS page,
            groupBitOr(bitShiftLeft(toUInt64(1), ce_sequence % 64)) AS bits,
            max(toUnixTimestamp64Nano(appended_ns)) AS last
        FROM sidetone.chunks
        WHERE topic = {topic:String} AND offset < {upto:Array(UInt64)}[indexOf({partitions:Array(UInt32)}, partition)]
            AND appended_ns >= fromUnixTimestamp64Nano({since:Int64})
        GROUP BY ALL
    )
    GROUP BY ALL
"""
"""A partition that is not asked for has index 0 and so position 0, and nothing stands before that."""


class StoreUnavailableError(Exception):
    """The store did not take a block. The same block with the same token may be sent again, and must be.

    Attributes:
        kind: `unreachable` when there was no answer, else the name of ClickHouse's error (`UNKNOWN_TABLE`).

    """

    def __init__(self, kind: str, message: str) -> None:
        """Keep what to count by, and what to read."""
        super().__init__(message)
        self.kind = kind


class Writer:
    """Inserts blocks. One per collector; safe from many threads, each of which has a client of its own."""

    def __init__(self, client_factory: ClientFactory, database: str = DATABASE) -> None:
        """`client_factory` makes a connected clickhouse_connect client; it may raise while the store is away."""
        self._factory = client_factory
        self._database = database
        self._local = threading.local()

    def insert(self, block: Block) -> None:
        """Insert a block; when this returns, base table and rollups have it.

        Raises:
            StoreUnavailableError: the store did not confirm it; it may or may not have (some of) it.

        """
        client = self._client()
        known = {name: value for name, value in RELEASE_SETTINGS.items() if name in client.server_settings}
        settings = INSERT_SETTINGS | known | {"insert_deduplication_token": block.token}
        try:
            client.raw_insert(
                f"{self._database}.{block.table}",
                column_names=block.columns,
                insert_block=memoryview(block.data),  # type: ignore[arg-type]  # any bytes-like body is sent as it is
                settings=settings,
                fmt="ArrowStream",
            )
        except (ClickHouseError, OSError) as error:
            # A connection that failed once may be half-open; the next try starts with a new one.
            self._local.client = None
            raise _unavailable(error, f"{block.rows} rows into {self._database}.{block.table}") from error

    def taken(self, positions: Mapping[TopicPartition, int], now_ns: int) -> Ledger:
        """Read back which chunks are stored from before a position of each partition.

        Raises:
            StoreUnavailableError: the store did not answer.

        """
        ledger = Ledger()
        try:
            for topic in sorted({where.topic for where, position in positions.items() if position > 0}):
                asked = {where.partition: upto for where, upto in positions.items() if where.topic == topic}
                parameters = {
                    "topic": topic,
                    "partitions": list(asked),
                    "upto": list(asked.values()),
                    "since": now_ns - KEEP_NS,
                }
                for row in self._client().query(TAKEN, parameters=parameters).result_rows:
                    _, partition, source, kind, pages, bits, last_ns = row
                    known = ledger.of(TopicPartition(topic, partition))
                    known.restore(source, kind, dict(zip(pages, bits, strict=True)), last_ns)
        except (ClickHouseError, OSError) as error:
            self._local.client = None
            raise _unavailable(error, f"reading {DATABASE}.chunks") from error
        return ledger

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            try:
                client = self._factory()
            except (ClickHouseError, OSError) as error:
                raise _unavailable(error, "connecting") from error
            self._local.client = client
        return client


def _unavailable(error: Exception, doing: str) -> StoreUnavailableError:
    name = getattr(error, "name", None)
    first_line = (str(error) or type(error).__name__).splitlines()[0][:300]
    return StoreUnavailableError(name if isinstance(name, str) else "unreachable", f"{doing}: {first_line}")
