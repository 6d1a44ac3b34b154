"""A real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import missing


@pytest.fixture(autouse=True)
def hashed_once(hasher_of_everybody: None) -> None:
    """Hash as the server does, which else hashes anew at the first sign-in, and records it."""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        missing("Chromium", "apt-get install chromium")
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=flags)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A fresh browser window; the test fails on an error in its console."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    page = await context.new_page()
    problems: list[str] = []
    page.on(
        "response", lambda r: problems.append(f"{r.status} {r.url}") if r.status > 399 else None
    )
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    await context.close()
    # Before sign-in piccolo-admin asks for what it may not have yet, and is told 401. Where a row's
    # page is left while it loads, piccolo-admin's router complains.
    vendor = ("401", 'Missing required param "rowID"')
    assert [each for each in problems if not any(known in each for known in vendor)] == []
