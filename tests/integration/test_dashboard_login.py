from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stamina
from playwright.sync_api import Page, expect, sync_playwright

from tests.integration.browser_tools import ARGUMENTS, executable
from tests.integration.stack_tools import running, settings_in

TOKEN = "the token of this test"


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser.new_page()
        browser.close()


def test_person_logs_in_to_a_dashboard_that_is_open_to_the_network_and_it_is_live(page: Page, tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    environment = settings.as_environment() | {"SIDETONE_DASHBOARD_HOST": "0.0.0.0", "SIDETONE_TOKEN": TOKEN}
    url = f"http://127.0.0.1:{settings.dashboard_port}"
    with running(["dashboard"], environment):
        for attempt in stamina.retry_context(on=httpx.HTTPError, timeout=60, attempts=None, wait_max=0.5):
            with attempt:
                httpx.get(f"{url}/_stcore/health").raise_for_status()
        assert httpx.get(f"{url}/").status_code == 401
        page.goto(f"{url}/session?session=none")
        page.get_by_label("Token").fill("a guess")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("That is not the token")).to_be_visible()
        page.get_by_role("textbox").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        # What the page's script wrote came over the web socket; there is no store behind it.
        expect(page.get_by_text("No answer from the store").first).to_be_visible(timeout=60_000)
        assert page.url == f"{url}/session?session=none"
        # The pages' own configuration is in force: nothing of Streamlit's for those who write pages.
        expect(page.get_by_text("Deploy", exact=True)).to_have_count(0)
        expect(page.get_by_test_id("stMainMenu")).to_have_count(0)
