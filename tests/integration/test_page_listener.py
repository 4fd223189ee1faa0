"""When the page has heard an answer, whatever the data channel does meanwhile: its two level meters are the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

import relay
from tests.integration.browser_tools import ARGUMENTS, executable

SCRIPT = Path(relay.__file__).parent / "page" / "call.js"
PAGE = "http://page.test/"

LISTEN = """async ({user, agent, turns, until}) => {
    const { Call } = await import('/call.js');
    let now = 0;
    performance.now = () => now;
    const level = (stretches) => () => {
        // Loud blocks of 2 ms in the last 43 ms.
        const loud = [];
        for (let at = now - 43; at < now - 1; at += 2) {
            if (stretches.some(([start, end]) => at >= start && at + 2 <= end)) loud.push(at);
        }
        return loud.length ? {level: 1, first: now - loud[0], last: now - loud.at(-1) - 2} : {level: 0};
    };
    const call = new Call(null);
    const sent = [];
    call.tell = (message) => sent.push(message);
    call.userLevel = level(user);
    call.agentLevel = level(agent);
    for (; now < until; now += 20) {
        for (const [at, turn_id] of turns) {
            if (at >= now - 20 && at < now) call.told({type: 'sidetone.turn', kind: 'agent_audio_started', turn_id});
        }
        call.listen();
    }
    return sent.map(({client_ns, values}) => ({
        turn: values.turn,
        heard_ms: client_ns / 1e6 - performance.timeOrigin,
        delay_ms: values.heard_delay_ms ?? null,
    }));
}"""


def listen(**given: Any) -> list[dict[str, float]]:
    """Return what the page reports, given stretches of speech and when it learns of answers, all in ms."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        page = browser.new_page()
        page.route(f"{PAGE}call.js", lambda route: route.fulfill(path=SCRIPT, content_type="text/javascript"))
        page.route(PAGE, lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        page.goto(PAGE)
        reports: list[dict[str, float]] = page.evaluate(LISTEN, given)
        browser.close()
    return reports


@pytest.mark.parametrize("late_ms", [-60, 30, 300, 1_100], ids=["before", "just after", "late", "very late"])
def test_answer_is_dated_by_the_ear_however_late_the_page_learns_of_it(late_ms: int) -> None:
    reports = listen(
        user=[(100, 1_000), (4_400, 5_000)],
        # The first answer pauses between its sentences; the second begins soon after the user's words.
        agent=[(1_500, 2_000), (2_300, 4_000), (5_400, 7_000)],
        turns=[(1_500 + late_ms, 1), (5_400 + late_ms, 2)],
        until=7_000,
    )
    assert [report["turn"] for report in reports] == [1, 2]
    for report, heard_ms, delay_ms in zip(reports, (1_500, 5_400), (500, 400), strict=True):
        assert report["heard_ms"] == pytest.approx(heard_ms, abs=5)
        assert report["delay_ms"] == pytest.approx(delay_ms, abs=5)


@pytest.mark.parametrize("user", [[(100, 3_000)], [(100, 1_430), (1_560, 3_000)]], ids=["voice", "between words"])
def test_answer_that_begins_over_the_user_has_no_delay(user: list[tuple[int, int]]) -> None:
    (report,) = listen(user=user, agent=[(1_500, 2_500)], turns=[(1_800, 1)], until=4_000)
    assert report["delay_ms"] is None
    assert report["heard_ms"] == pytest.approx(1_500, abs=5)
