"""`sidetone top` beside real edge processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sidetone.endpoints import Endpoint, announced, running
from sidetone.live import Reading, parse, rates
from sidetone.settings import Settings
from tests.integration.role_tools import ready, role
from tests.integration.stack_tools import command, settings_in

EDGE = Endpoint("edge", "north-1", "north", "http://127.0.0.1:1", os.getpid())


def top(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("top", "--every", "0.2", *arguments),
        env={**os.environ, **settings.as_environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of two edges that run."""
    made = settings_in(tmp_path)
    environment = {**os.environ, **made.as_environment()}
    started = [
        subprocess.Popen(command("edge", edge.name), env=environment, stderr=subprocess.DEVNULL)
        for edge in made.edges[:2]
    ]
    try:
        while len(running([tmp_path])) < len(started):
            assert all(process.poll() is None for process in started)
        yield made
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)


def test_each_edge_has_its_row_and_drops_are_seen(settings: Settings) -> None:
    edge = settings.edges[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(7):
            stranger.sendto(b"\x80\x6f" + bytes(40), (edge.host, edge.port))
    done = top(settings, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["processes"]}
    assert set(rows) == {one.name for one in settings.edges[:2]}
    assert rows[edge.name]["dropped"] == {"unknown_source": 7}
    assert rows[edge.name]["region"] == edge.region
    assert (rows[edge.name]["calls"], rows[edge.name]["overflowed"], rows[edge.name]["shed"]) == (0, 0, 0)
    table = top(settings, "--once")
    assert table.returncode == 0
    assert all(one.name in table.stdout for one in settings.edges[:2])
    assert "unknown_source 7" in table.stdout


def test_beyond_loopback_the_token_is_sent_and_asked_for_by_name(tmp_path: Path) -> None:
    open_to_all = settings_in(tmp_path).model_copy(update={"edge_host": "0.0.0.0", "token": SecretStr("word")})
    edge = open_to_all.edges[0]
    with role(open_to_all, "edge", edge.name) as process:
        asyncio.run(ready(open_to_all, process))
        (endpoint,) = running([tmp_path])
        (row,) = json.loads(top(open_to_all, "--json").stdout)["processes"]
        assert (row["name"], row["trouble"], row["calls"]) == (edge.name, None, 0)
        elsewhere = settings_in(tmp_path / "other")
        for token, trouble in ((SecretStr("word"), False), (SecretStr("another"), True), (None, True)):
            asking = elsewhere.model_copy(update={"token": token})
            (row,) = json.loads(top(asking, "--json", "--url", endpoint.url).stdout)["processes"]
            assert ("SIDETONE_TOKEN" in (row["trouble"] or "")) is trouble


def test_the_live_view_ends_on_ctrl_c(settings: Settings) -> None:
    ours, its = pty.openpty()
    with subprocess.Popen(
        command("top", "--every", "0.1"),
        env={**os.environ, **settings.as_environment(), "COLUMNS": "200", "TERM": "xterm"},
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        seen = b""
        while settings.edges[0].name.encode() not in seen:
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: its end is closed
            while os.read(ours, 65_536):
                pass
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
    os.close(ours)


def test_an_error_says_what_to_start_when_nothing_runs(tmp_path: Path) -> None:
    done = top(settings_in(tmp_path))
    assert done.returncode == 1
    assert "sidetone up" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_killed_process_left_is_passed_over(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with announced(tmp_path, "edge", "north-1", "north", "http://127.0.0.1:1"):
        assert [one.name for one in running([tmp_path])] == ["north-1"]
        file = next((tmp_path / "endpoints").iterdir())
        file.write_text(file.read_text().replace(str(os.getpid()), str(gone.pid)))
        assert running([tmp_path]) == []
        file.write_text("{")
        assert running([tmp_path]) == []
    assert list((tmp_path / "endpoints").iterdir()) == []


def reading(at_s: float, **samples: dict[str, float]) -> Reading:
    return Reading(EDGE, at_s, {f"sidetone_edge_{name}": values for name, values in samples.items()})


def test_rates_are_of_the_time_between_and_loss_of_what_was_expected() -> None:
    before = reading(
        10.0,
        forwarded_datagrams_total={"up": 100, "down": 50},
        captured_packets_total={"": 90},
        lost_packets_total={"": 1},
    )
    after = reading(
        12.0,
        flows={"": 5},
        calls={"": 3},
        forwarded_datagrams_total={"up": 300, "down": 50},
        captured_packets_total={"": 180},
        lost_packets_total={"": 11},
        dropped_datagrams_total={"unknown_source": 4, "no_username": 0},
    )
    row = rates(before, after)
    assert (row["up_per_s"], row["down_per_s"], row["voice_per_s"]) == (100.0, 0.0, 45.0)
    assert row["loss"] == pytest.approx(0.1)
    assert row["dropped"] == {"unknown_source": 4}
    assert row["calls"] == 3


def test_what_was_lost_and_came_after_all_is_no_restart_of_the_edge() -> None:
    before = reading(10.0, captured_packets_total={"": 900}, lost_packets_total={"": 500}, found_packets_total={"": 7})
    after = reading(11.0, captured_packets_total={"": 990}, lost_packets_total={"": 512}, found_packets_total={"": 9})
    assert rates(before, after)["loss"] == pytest.approx(0.1)
    after = reading(11.0, captured_packets_total={"": 990}, lost_packets_total={"": 500}, found_packets_total={"": 8})
    assert rates(before, after)["loss"] == 0.0


def test_an_edge_that_was_restarted_counts_from_zero_and_what_it_does_not_show_is_unknown() -> None:
    row: dict[str, Any] = rates(
        reading(10.0, captured_packets_total={"": 900}), reading(11.0, captured_packets_total={"": 50})
    )
    assert row["voice_per_s"] == 50.0
    assert row["loss"] is None
    assert row["dropped_per_s"] is None


def test_prometheus_text_is_read_by_its_first_label() -> None:
    text = '# TYPE a counter\na_total{reason="x"} 1\na_total{reason="y"} 2\n# TYPE b gauge\nb 3\n'
    assert parse(text) == {"a_total": {"x": 1.0, "y": 2.0}, "b": {"": 3.0}}
