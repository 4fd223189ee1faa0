"""What a collector answers about itself over HTTP."""

from __future__ import annotations

import httpx
import pyarrow as pa
import pytest

from collector import Block, CollectorHaltedError, Intent, Progress, Stage, open_range
from collector.endpoint import Endpoint
from collector.metrics import Health, Metrics
from collector.ranges import Range
from eventlog.port import Message, TopicPartition

WHERE = TopicPartition("sidetone.turns", 0)


def refused() -> Progress:
    intent = Intent(WHERE, 0, 0, "e")
    opened = open_range(Range(intent, (Message(WHERE, 0, b"", {}, None, 1),)), late_after_s=1)
    block = Block("turns", (), "token", 1, pa.py_buffer(b""))
    return Progress(Stage.REFUSED, WHERE, intent, opened, block, "no route", "unreachable")


def test_readiness_follows_tables_group_and_store() -> None:
    health = Health()
    assert "tables" in health.not_ready()
    health.migrated = True
    assert "owns no partitions" in health.not_ready()
    health.observe(Progress(Stage.TAKEN_OVER, partitions=9))
    assert not health.not_ready()
    health.observe(refused())
    assert "no route" in health.not_ready()
    health.observe(Progress(Stage.INSERTED))
    assert not health.not_ready()
    health.observe(Progress(Stage.FENCED))
    assert "owns no partitions" in health.not_ready()


def test_the_endpoint_tells_alive_from_ready_and_shows_metrics() -> None:
    metrics = Metrics()
    step = refused()
    for stage in (Stage.OPENED, Stage.REFUSED, Stage.COMMITTED):
        metrics.observe(Progress(stage, WHERE, step.intent, step.opened, step.block, "", "unreachable"))
    with (
        Endpoint(("127.0.0.1", 0), metrics.registry, lambda: "", lambda: "the store is away") as endpoint,
        httpx.Client(base_url=f"http://127.0.0.1:{endpoint.port}") as client,
    ):
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, "the store is away")
        text = client.get("/metrics").text
        assert client.get("/nothing").status_code == 404
    assert 'sidetone_collector_insert_retries_total{kind="unreachable",table="turns"} 1.0' in text
    assert 'sidetone_collector_dead_letters_total{reason="bad_header",topic="sidetone.turns"} 1.0' in text
    assert 'sidetone_collector_freshness_seconds_count{topic="sidetone.turns"} 1.0' in text


def test_a_lag_that_is_not_known_any_more_is_not_shown() -> None:
    metrics = Metrics()

    def shown() -> dict[str, float]:
        return {one.labels["topic"]: one.value for family in metrics.lag.collect() for one in family.samples}

    metrics.show_lag({"a": 7, "b": 0})
    assert shown() == {"a": 7, "b": 0}
    metrics.show_lag({"b": 3})  # another collector has the partitions of the first
    assert shown() == {"b": 3}
    metrics.show_lag({})
    assert shown() == {}


def test_metrics_ask_for_the_token_and_health_does_not() -> None:
    with (
        Endpoint(("127.0.0.1", 0), Metrics().registry, lambda: "", lambda: "", "secret") as endpoint,
        httpx.Client(base_url=f"http://127.0.0.1:{endpoint.port}") as client,
    ):
        assert client.get("/readyz").status_code == 200
        refused = client.get("/metrics", headers={"Authorization": "Basic secret"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    metrics = Metrics()
    with (
        Endpoint(("127.0.0.1", 0), metrics.registry, lambda: "", lambda: "") as endpoint,
        pytest.raises(CollectorHaltedError, match="set another"),
    ):
        Endpoint(("127.0.0.1", endpoint.port), metrics.registry, lambda: "", lambda: "")
