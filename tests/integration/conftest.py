"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.edge_tools import WAYS, World


@pytest.fixture(name="world", params=WAYS)
def _world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, compiled=request.param == "compiled")
    yield made
    made.close()
