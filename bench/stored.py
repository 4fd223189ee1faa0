"""What stored packets take: by table and, of the packets' own table, by column."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from clickhouse_connect.driver.client import Client

TABLES: Final = ("packets", "packets_1s", "packets_1m", "region_1s", "region_1m")
POLL_S: Final = 0.02

Measure = Literal["bytes_on_disk", "data_compressed_bytes"]
"""All files of a part, or without what a part takes however small it is: indexes, checksums, statistics."""


def bytes_by_table(client: Client, facts: int, measure: Measure) -> dict[str, float]:
    """Merge the packets' table and its rollups, and return the bytes of each, per packet."""
    client.command("SYSTEM START MERGES")
    sizes = {}
    for table in TABLES:
        _merge(client, table)
        sizes[table] = _sum(client, f"sum({measure}) FROM system.parts", table) / facts
    return sizes


def bytes_by_column(client: Client, facts: int) -> dict[str, float]:
    """Return the compressed bytes of each column of the packets' table, per packet, largest first.

    A small part has its columns in one file, which tells nothing of them: the table is merged once more, with one each.
    """
    with _wide_parts(client, "packets"):
        _merge(client, "packets")
        rows = client.query(
            "SELECT column, sum(column_data_compressed_bytes) AS size FROM system.parts_columns "
            "WHERE database = 'sidetone' AND table = 'packets' AND active GROUP BY column ORDER BY size DESC, column"
        ).result_rows
    return {str(column): int(size) / facts for column, size in rows}


@contextmanager
def _wide_parts(client: Client, table: str) -> Iterator[None]:
    client.command(f"ALTER TABLE sidetone.{table} MODIFY SETTING min_bytes_for_wide_part = 0")
    yield
    client.command(f"ALTER TABLE sidetone.{table} RESET SETTING min_bytes_for_wide_part")


def _merge(client: Client, table: str) -> None:
    """Merge all parts of each partition into one; a merge in the background may be in the way for a while."""
    client.command(f"OPTIMIZE TABLE sidetone.{table} FINAL")
    while _sum(client, "count() - uniqExact(partition_id) FROM system.parts", table):
        time.sleep(POLL_S)
        client.command(f"OPTIMIZE TABLE sidetone.{table} FINAL")


def _sum(client: Client, question: str, table: str) -> int:
    return int(str(client.command(f"SELECT {question} WHERE database = 'sidetone' AND table = '{table}' AND active")))
