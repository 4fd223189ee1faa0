"""How the tests start a real browser."""

from __future__ import annotations

import shutil

ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # The browser asks nobody but the page's own server.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str:
    """Return the installed Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    raise AssertionError("no Chromium here: run `make setup-test`")
