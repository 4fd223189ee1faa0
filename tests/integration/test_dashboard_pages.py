"""The two pages: their logic by AppTest, and opened in a real browser on stored calls."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from playwright.sync_api import Browser, Page, expect, sync_playwright
from streamlit.testing.v1 import AppTest

from analytics import connect, run
from dashboards import words
from tests.integration.browser_tools import ARGUMENTS, executable, no_trouble, shows
from tests.integration.stored_calls import SECOND, T0_NS, Call, Facts, realistic, running_store, sent, writer

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
THIN = Call(Facts(), 1, "thin", T0_NS + 3_600 * SECOND)
"""A call an hour later, of which one packet fact in four was kept."""

WINDOW = {"from": "2026-03-02T10:00:00", "to": "2026-03-02T10:05:00"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with running_store(tmp_path_factory.mktemp("store")) as address:
        facts = Facts()
        for call in realistic(facts, start_ns=T0_NS + 10 * SECOND, minutes=1, every_s=20):
            sent(call, seconds=30)
        THIN.facts = facts
        for seq in range(0, 1_000, 4):
            THIN.packet("edge_up", seq, 20 * seq, represents=4)
        with contextlib.closing(writer(*address)) as client:
            facts.store(client)
        yield address


@pytest.fixture(scope="module")
def answers(store: tuple[str, int]) -> dict[str, list[dict[str, Any]]]:
    with contextlib.closing(connect(*store)) as client:
        sessions = run(client, "sessions", WINDOW | {"errors": True}).records()
        return {
            "overview": run(client, "overview", WINDOW | {"total": True}).records(),
            "sessions": sessions,
            "turn_errors": run(client, "turn_errors", WINDOW | {"session": sessions[0]["session_id"]}).records(),
            "session_sender": run(client, "session_sender", {"session": sessions[0]["session_id"]}).records(),
        }


def sender_line(decisions: list[dict[str, Any]]) -> str:
    """Of the line about the agent's voice, what needs no sum over time."""
    rates = [decisions[0]["bitrate_before_bps"], *(row["bitrate_bps"] for row in decisions)]
    return (
        f"n = {len(decisions)} changes; bit rate {rates[0] / 1000:.1f} → {rates[-1] / 1000:.1f} kbit/s, lowest "
        f"{min(rates) / 1000:.1f} kbit/s"
    )


@pytest.fixture
def app(store: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("SIDETONE_STORE_HOST", store[0])
    monkeypatch.setenv("SIDETONE_STORE_PORT", str(store[1]))
    return AppTest.from_file(str(APP), default_timeout=60)


def figures(app: AppTest) -> dict[str, str]:
    return {metric.label: str(metric.value) for metric in app.metric}


def test_overview_shows_the_numbers_of_the_query(app: AppTest, answers: dict[str, list[dict[str, Any]]]) -> None:
    app.query_params |= WINDOW
    app.run()
    assert not app.exception
    assert not app.error
    total = answers["overview"][0]
    assert figures(app) == {
        "Calls": words.count(total["calls"]),
        "Turns": words.count(total["turns"]),
        "Response latency p50": words.ms(total["latency_p50_ms"]),
        "Response latency p95": words.ms(total["latency_p95_ms"]),
        "Packet loss": words.percent(total["packet_loss"]),
        "Turn-taking errors": words.count(total["errors"]),
    }


def test_a_region_in_the_address_narrows_the_page(app: AppTest, answers: dict[str, list[dict[str, Any]]]) -> None:
    app.query_params |= WINDOW | {"region": "ap-south"}
    app.run()
    assert not app.exception
    (region,) = (row for row in answers["overview"] if row["region"] == "ap-south")
    assert figures(app)["Turns"] == words.count(region["turns"])
    assert figures(app)["Packet loss"] == words.percent(region["packet_loss"])


def test_where_packet_facts_were_thinned_both_pages_say_so(app: AppTest) -> None:
    wanted = "packet facts thinned: 25 % kept, counts exact, jitter estimated"
    app.query_params |= {"from": "2026-03-02T11:00:00", "to": "2026-03-02T11:05:00"}
    app.run()
    assert any(wanted in caption.value for caption in app.caption)
    app.query_params.clear()
    app.query_params |= WINDOW
    app.run()
    assert not any("thinned" in caption.value for caption in app.caption)
    app.query_params.clear()
    app.switch_page("views/session.py")
    app.query_params["session"] = THIN.id
    app.run()
    assert not app.exception
    assert any(wanted in caption.value for caption in app.caption)


def test_an_empty_window_says_so(app: AppTest) -> None:
    app.query_params |= {"from": "2020-01-01", "to": "2020-01-02"}
    app.run()
    assert not app.exception
    assert not app.metric
    assert "No calls, turns or packets" in app.info[0].value


def test_a_window_that_is_none_says_what_to_do(app: AppTest) -> None:
    app.query_params |= {"from": "yesterday", "to": "2020-01-02"}
    app.run()
    assert "use ISO 8601 times" in app.error[0].value


@pytest.mark.parametrize("page", ["views/overview.py", "views/session.py"])
def test_without_a_store_the_page_says_what_to_do(page: str, app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDETONE_STORE_PORT", "1")
    app.run()
    app.switch_page(page).run()
    assert not app.exception
    assert "start it with `sidetone up`" in app.error[0].value


def test_session_shows_the_numbers_of_the_query(app: AppTest, answers: dict[str, list[dict[str, Any]]]) -> None:
    app.run()
    call = answers["sessions"][0]
    app.switch_page("views/session.py")
    app.query_params["session"] = call["session_id"]
    app.run()
    assert not app.exception
    assert not app.error
    shown = figures(app)
    assert shown["Turns"] == words.count(call["turns"])
    assert shown["Response latency p50"] == words.ms(call["latency_p50_ms"])
    assert shown["Response latency worst"] == words.ms(call["latency_max_ms"])
    assert shown["Packet loss"] == words.percent(call["packet_loss"])
    assert shown["Turn-taking errors"] == words.count(call["errors"])
    assert shown["Duration"] == words.duration(call["duration_ms"])
    assert list(app.table[0].value["evidence"]) == [row["evidence"] for row in reversed(answers["turn_errors"])]
    decisions = answers["session_sender"]
    assert len(decisions) > 2
    assert any(sender_line(decisions) in caption.value for caption in app.caption)
    (table,) = (frame.value for frame in app.dataframe if "because" in frame.value.columns)
    assert list(table["bit rate"]) == [words.kilobits(row["bitrate_bps"]) for row in decisions]
    for row, said in zip(decisions, table["because"], strict=True):
        assert f"{words.percent(row['lost'], 1)} lost" in said
        assert f"round trip {words.ms(row['rtt_ms'])}" in said


@pytest.mark.parametrize(
    ("session", "words_shown"),
    [("no-uuid", "is not the id of a call"), ("019cae00-0000-7000-8000-0000000fffff", "heard nothing of this call")],
)
def test_a_call_that_is_not_there(session: str, words_shown: str, app: AppTest) -> None:
    app.run()
    app.switch_page("views/session.py")
    app.query_params["session"] = session
    app.run()
    assert not app.exception
    assert any(words_shown in box.value for box in (*app.warning, *app.info))


@pytest.fixture(scope="module")
def dashboard(store: tuple[str, int]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "SIDETONE_STORE_HOST": store[0], "SIDETONE_STORE_PORT": str(store[1])}
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.fileWatcherType", "none"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            for attempt in stamina.retry_context(on=httpx.HTTPError, timeout=60, attempts=None, wait_max=0.5):
                with attempt:
                    httpx.get(f"{url}/_stcore/health").raise_for_status()
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(params=[("light", 1400), ("dark", 430)], ids=["light-wide", "dark-narrow"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    scheme, width = request.param
    with contextlib.closing(browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 1000})) as opened:
        opened.set_default_timeout(60_000)
        strangers: list[str] = []
        opened.on("request", lambda sent: None if _is_local(sent.url) else strangers.append(sent.url))
        crashes: list[str] = []
        opened.on("pageerror", lambda error: crashes.append(str(error)))
        yield opened
        assert strangers == []
        assert crashes == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def test_overview_in_a_browser(page: Page, dashboard: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    page.goto(f"{dashboard}/?from={WINDOW['from']}&to={WINDOW['to']}")
    total = answers["overview"][0]
    shows(page, "Calls", words.count(total["calls"]))
    shows(page, "Turns", words.count(total["turns"]))
    shows(page, "Response latency p50", words.ms(total["latency_p50_ms"]))
    shows(page, "Response latency p95", words.ms(total["latency_p95_ms"]))
    shows(page, "Packet loss", words.percent(total["packet_loss"]))
    shows(page, "Turn-taking errors", words.count(total["errors"]))
    # Latency of three regions, loss, jitter, errors.
    expect(page.locator("[class*='st-key-latency-'] canvas")).to_have_count(3)
    for key in ("loss-over-time", "jitter-over-time", "errors-by-kind"):
        expect(page.locator(f".st-key-{key} canvas").first).to_be_attached()
    no_trouble(page)


def test_from_a_fixed_window_back_to_one_that_ends_now(browser: Browser, dashboard: str) -> None:
    with contextlib.closing(browser.new_page()) as page:
        page.set_default_timeout(60_000)
        page.goto(f"{dashboard}/?from={WINDOW['from']}&to={WINDOW['to']}")
        expect(page.get_by_text("fixed by the address")).to_be_visible(timeout=60_000)
        chosen = page.locator("[data-testid='stButtonGroup'] button[aria-checked='true']")
        expect(chosen).to_have_count(0)
        page.get_by_test_id("stButtonGroup").get_by_text("6h").click()
        expect(page.get_by_text("· live")).to_be_visible(timeout=60_000)
        expect(chosen).to_have_text(["6h"], timeout=60_000)
        page.wait_for_url("**range=6h**", timeout=60_000)
        assert "from=" not in page.url


def test_session_in_a_browser(page: Page, dashboard: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    call = answers["sessions"][0]
    page.goto(f"{dashboard}/session?session={call['session_id']}")
    expect(page).to_have_title("Session")
    shows(page, "Turns", words.count(call["turns"]))
    shows(page, "Response latency worst", words.ms(call["latency_max_ms"]))
    shows(page, "Packet loss", words.percent(call["packet_loss"]))
    shows(page, "Turn-taking errors", words.count(call["errors"]))
    expect(page.get_by_text(sender_line(answers["session_sender"]))).to_be_visible()
    for key in ("timeline", "waterfall"):
        expect(page.locator(f".st-key-{key} canvas").first).to_be_attached()
    no_trouble(page)
