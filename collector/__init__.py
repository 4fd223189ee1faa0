"""The collector keeps facts: it moves chunks from the event log into the store's tables, each exactly once in effect.

migrations/*.sql, migrate.py: the tables and rollups, brought up to date. ranges.py: whole messages become a planned
range. blocks.py: a range's chunks become one Arrow block per UTC day, each with its token. writer.py: a block
becomes rows in the store. collector.py: the loop that commits the intent, inserts, commits the effect, and replays
what a crash left open. service.py: the process around it, with metrics and health.
"""

from __future__ import annotations

from collector.migrate import Migration, MigrationError, StoreSettings, migrate, migrations

__all__ = ["Migration", "MigrationError", "StoreSettings", "migrate", "migrations"]
