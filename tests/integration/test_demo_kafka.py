"""The demo on Kafka: the same account, from a broker that it starts, or one that it is given and that is empty."""

import json
import subprocess
from pathlib import Path

import pytest

from sidetone.broker import Broker
from tests.integration.stack_tools import command


@pytest.mark.timeout(300)  # a broker and all roles start, on however busy a machine
def test_the_demo_starts_a_broker_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDETONE_KAFKA_BOOTSTRAP", raising=False)
    arguments = ["demo", "--log", "kafka", "--headless", "--seconds", "8", "--calls", "3", "--json"]
    ran = subprocess.run(
        command(*arguments, "--data-dir", str(tmp_path / "data")), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    account = json.loads(ran.stdout)
    assert account["ok"]
    assert account["deaths"] == []
    assert account["calls"] == 3
    packets = account["facts"]["packet"]
    assert packets["emitted"] == packets["accounted"] == packets["stored"] == packets["distinct"] > 0
    assert "broker is ready" in ran.stderr
    assert not _running(tmp_path)


def _running(folder: Path) -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in found if str(folder) in line]


@pytest.mark.timeout(300)
def test_a_broker_that_is_given_is_used_while_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Broker(tmp_path / "broker") as broker:
        monkeypatch.setenv("SIDETONE_KAFKA_BOOTSTRAP", broker.bootstrap)
        arguments = ["demo", "--log", "kafka", "--headless", "--seconds", "3", "--calls", "1", "--json"]
        first, second = (
            subprocess.run(
                command(*arguments, "--data-dir", str(tmp_path / name)), capture_output=True, text=True, check=False
            )
            for name in ("first", "second")
        )
        assert broker.alive
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["ok"]
    assert not (tmp_path / "first" / "kafka").exists()
    assert second.returncode != 0
    assert "holds facts already" in " ".join(second.stderr.split())
