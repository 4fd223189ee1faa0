"""A store for the contract suite, and a database of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from sidetone.store.process import StoreProcess


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    outside = os.environ.get("SIDETONE_CLICKHOUSE")
    if outside:
        host, _, port = outside.rpartition(":")
        yield host, int(port)
        return
    with StoreProcess(tmp_path_factory.mktemp("store")) as store:
        yield store.host, store.port


@pytest.fixture(scope="session")
def admin(address: tuple[str, int]) -> Iterator[Client]:
    made = clickhouse_connect.get_client(host=address[0], port=address[1])
    yield made
    made.close()


@pytest.fixture
def client(address: tuple[str, int], admin: Client) -> Iterator[Client]:
    database = f"contract_{uuid.uuid4().hex}"
    admin.command(f"CREATE DATABASE {database}")
    made = clickhouse_connect.get_client(host=address[0], port=address[1], database=database)
    yield made
    made.close()
    admin.command(f"DROP DATABASE {database}")
