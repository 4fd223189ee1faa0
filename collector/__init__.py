"""The collector keeps facts: it moves chunks from the event log into the store's tables, each once in effect.

migrations/*.sql, migrate.py: tables and rollups, brought up to date. ranges.py: whole messages become a planned range.
opening.py: what a message must be; deadletters.py: where it goes if it is not. ledger.py: which chunks are stored, so
that one sent twice is taken once. blocks.py: a range's chunks become one Arrow block per UTC day, each with its token.
writer.py: a block becomes rows. collector.py: the loop that commits the intent, inserts, commits the effect, and
replays what a crash left open. rebuild.py: tables emptied and loaded from the log once more, while it goes on.
progress.py, metrics.py, endpoint.py: what it tells about that. service.py: the process around it.
"""

from __future__ import annotations

from collector.blocks import Block, Opened, open_range
from collector.collector import Backfill, Collector
from collector.config import CollectorConfig
from collector.deadletters import Letter, ReplayError, letters, original, replay
from collector.errors import CollectorHaltedError, PoisonError
from collector.migrate import Migration, MigrationError, StoreSettings, migrate, migrations
from collector.progress import Observer, Progress, Stage
from collector.ranges import Intent, Planner, Range
from collector.rebuild import RebuildError, Rebuilt, rebuild
from collector.service import run_collector, store_clients
from collector.writer import StoreUnavailableError

__all__ = [
    "Backfill",
    "Block",
    "Collector",
    "CollectorConfig",
    "CollectorHaltedError",
    "Intent",
    "Letter",
    "Migration",
    "MigrationError",
    "Observer",
    "Opened",
    "Planner",
    "PoisonError",
    "Progress",
    "Range",
    "RebuildError",
    "Rebuilt",
    "ReplayError",
    "Stage",
    "StoreSettings",
    "StoreUnavailableError",
    "letters",
    "migrate",
    "migrations",
    "open_range",
    "original",
    "rebuild",
    "replay",
    "run_collector",
    "store_clients",
]
