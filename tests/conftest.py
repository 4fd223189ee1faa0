"""What all tests share: one Kafka broker per run, started by the first test that asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from sidetone.broker import Broker

# A deadline would make property tests depend on how busy the machine is.
hypothesis.settings.register_profile("sidetone", deadline=None)
hypothesis.settings.load_profile("sidetone")


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Apache Kafka broker: the one that SIDETONE_KAFKA_BOOTSTRAP names, or one of our own."""
    if given := os.environ.get("SIDETONE_KAFKA_BOOTSTRAP"):
        yield given
        return
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap
