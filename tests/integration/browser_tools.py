"""How the tests start a real browser, and what they look for on a dashboard page."""

from __future__ import annotations

import shutil

from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)

ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # The browser asks nobody but the page's own server.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


def executable() -> str:
    """Return the installed Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    raise AssertionError("no Chromium here: run `make setup-test`")


def shows(page: Page, label: str, value: str) -> None:
    """Expect a figure of that label to have that value."""
    metric = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    expect(metric.get_by_test_id("stMetricValue")).to_have_text(value)


def no_trouble(page: Page) -> None:
    """Expect no error box, and nothing beyond the window's edge."""
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
    # A page that is wider than the window hides what it shows.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
