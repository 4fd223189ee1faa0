"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from collector import CollectorConfig
from eventlog.port import EventLog
from tests.integration.collector_tools import Store, empty, from_here, migrated_store, opened_log
from tests.integration.edge_tools import WAYS, World


@pytest.fixture(name="world", params=WAYS)
def _world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, compiled=request.param == "compiled")
    yield made
    made.close()


# Of the collector's tests. Files that mean other things by these names define their own.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The embedded store with its tables."""
    with migrated_store(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def client(store: Store) -> Client:
    """A client of that store, which is empty."""
    client = store.client()
    empty(client)
    return client


@pytest.fixture(params=["sqlite", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, config: CollectorConfig) -> AsyncIterator[EventLog]:
    """A log of each kind, which begins for the group of the file's own `config` where it ends now."""
    async with opened_log(request.param, tmp_path, lambda: request.getfixturevalue("kafka_bootstrap")) as open_log:
        opened = open_log()
        await from_here(opened, config)
        yield opened
