"""A real browser without a window, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "PRUNEPEFT_BROWSER_REQUIRED"
"""Set where a missing browser must fail the tests rather than skip them."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the machine has it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        hint = f"no Chromium here ({', '.join(NAMES)}): pages are not tested; Debian: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(hint)
        pytest.skip(hint)
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers do not have
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1200, height: int = 900, part: str = "") -> Iterator[Page]:
    """A page opened without a network; whatever the browser complains about fails the test.

    Args:
        browser: The browser.
        file: The page.
        width: Width of the screen in pixels.
        height: Its height.
        part: What of the page to go to.
    """
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True, accept_downloads=True)
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(f"{file.as_uri()}{'#' + part if part else ''}")
    yield page
    context.close()
    assert complaints == []
