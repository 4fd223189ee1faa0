"""The demo as a person runs it, judged by its own account and by asking the store afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import stamina
from playwright.sync_api import sync_playwright

import analytics
from dashboards import words
from sidetone.settings import load
from tests.integration.browser_tools import ARGUMENTS, executable, no_trouble, shows
from tests.integration.stack_tools import command, processes_of, running, settings_in

SECONDS = 30
COMMAND = f".venv/bin/sidetone demo --headless --seconds {SECONDS} --json"
"""As in the README."""

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """Ask again until what was started answers."""
    for attempt in stamina.retry_context(
        on=(httpx.HTTPError, analytics.StoreUnavailableError), timeout=60, attempts=None, wait_max=0.5
    ):
        with attempt:
            return ask()
    raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo") / "data"
    ran = subprocess.run(
        [*COMMAND.split(), "--data-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
        env={**os.environ, "SIDETONE_DATA_DIR": str(folder)},
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert processes_of(folder) == []
    return folder, json.loads(ran.stdout)


def test_nine_calls_in_three_regions_have_turns(demo: tuple[Path, dict[str, Any]]) -> None:
    account = demo[1]
    assert account["calls"] == 9
    assert account["failed_calls"] == []
    assert account["turns"] >= 9
    assert set(account["regions"]) == {edge.region for edge in load().edges}
    for region in account["regions"].values():
        assert region["calls"] == 3
        assert region["response_latency_ms"]["n"] > 0
        assert 0 < region["response_latency_ms"]["p50"] <= region["response_latency_ms"]["p95"]
        assert 0 <= region["packet_loss"] < 0.2


def test_every_fact_emitted_is_stored_once(demo: tuple[Path, dict[str, Any]]) -> None:
    facts = demo[1]["facts"]
    for name in ("packet", "frame", "leg", "turn", "session", "client", "input", "emitter"):
        assert facts[name]["emitted"] > 0, name
    assert facts["audio"]["emitted"] == 0, "nobody consented to a recording"
    for name, fact in facts.items():
        assert fact["emitted"] == fact["accounted"] == fact["stored"] == fact["distinct"], name
        assert fact["missing_chunks"] == 0
        assert not any(fact["shed"].values())


def test_measured_loss_is_the_injected_loss_packet_for_packet(demo: tuple[Path, dict[str, Any]]) -> None:
    injected = demo[1]["injected"]
    assert len({tuple(region["networks"]) for region in injected.values()}) == 3
    for region in injected.values():
        for way in ("uplink", "downlink"):
            assert region[way]["streams"] == 3
            assert region[way]["sent"] > 3 * SECONDS * 40
            assert region[way]["measured_lost"] == region[way]["lost"]
            assert region[way]["equal"] is True
    assert sum(region["uplink"]["lost"] for region in injected.values()) > 0


def test_platform_and_callers_tell_the_same_latency(demo: tuple[Path, dict[str, Any]]) -> None:
    truth = demo[1]["truth"]
    assert truth["heard"] > 0
    # An answer that was interrupted and goes on is heard twice and is one turn.
    assert truth["matched"] >= 0.9 * (truth["heard"] - truth["continued"])
    assert truth["error_ms"]["p50"] < 60


def test_voice_never_ran_dry_at_the_transceiver(demo: tuple[Path, dict[str, Any]]) -> None:
    assert demo[1]["underruns"] == 0


def test_dashboard_shows_the_numbers_of_the_queries(demo: tuple[Path, dict[str, Any]]) -> None:
    settings = settings_in(demo[0])
    environment = settings.as_environment()
    now = datetime.now(UTC).replace(tzinfo=None)
    window = {"from": (now - timedelta(hours=1)).isoformat(), "to": now.isoformat()}
    with running(["store"], environment), running(["dashboard"], environment), sync_playwright() as playwright:
        client = patiently(lambda: analytics.connect(settings.store_host, settings.store_port))
        (total, *_) = analytics.run(client, "overview", window | {"total": True}).records()
        call = analytics.run(client, "sessions", window).records()[0]
        client.close()
        url = f"http://127.0.0.1:{settings.dashboard_port}"
        patiently(lambda: httpx.get(f"{url}/_stcore/health").raise_for_status())
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        page = browser.new_page()
        page.goto(f"{url}/?from={window['from']}&to={window['to']}")
        shows(page, "Calls", words.count(total["calls"]))
        shows(page, "Turns", words.count(total["turns"]))
        shows(page, "Response latency p50", words.ms(total["latency_p50_ms"]))
        shows(page, "Response latency p95", words.ms(total["latency_p95_ms"]))
        shows(page, "Packet loss", words.percent(total["packet_loss"]))
        shows(page, "Turn-taking errors", words.count(total["errors"]))
        no_trouble(page)
        page.goto(f"{url}/session?session={call['session_id']}")
        shows(page, "Turns", words.count(call["turns"]))
        shows(page, "Response latency p50", words.ms(call["latency_p50_ms"]))
        shows(page, "Packet loss", words.percent(call["packet_loss"]))
        no_trouble(page)
        browser.close()
    assert total["calls"] == 9


def test_a_second_demo_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    ran = subprocess.run(
        command("demo", "--headless", "--seconds", "1", "--data-dir", str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "holds something that no demo made" in ran.stderr
    assert (tmp_path / "precious").read_text() == "mine"
