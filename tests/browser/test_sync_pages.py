"""Why a sync failed, once more, watched and cancelled: on the pages of syncs."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from home.database.engine import Engine
from home.tables import User
from sync_history.tables import SyncRun
from tests.browser.steps import Steps
from tests.browser.test_account import sign_in
from tests.browser.test_pages import look_at
from tests.live import running
from tests.sync_history.conftest import until

pytestmark = pytest.mark.any_version

EXAMPLES = {"SYNC_SOURCES": "tests.sync_history.examples", "SYNC_SCHEDULER": "false"}


async def test_why_a_sync_failed_and_run_again(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    steps = Steps(page)
    with running(url, **EXAMPLES) as live:
        await sign_in(page, live, "/sync", administrator.email)
        await page.get_by_role("button", name="Run broken", exact=True).click()
        first = await until(1, "failed")
        await page.goto(live.address + "/")
        await steps.link("Sync")
        await steps.click(page.get_by_role("link", name="Run 1, failed"))
        await expect(page.get_by_text("The other side is closed on Saturdays.")).to_be_visible()
        await look_at(page)
        await steps.button("Run again")
        await page.wait_for_url("**/sync/runs/2")
        await expect(page.get_by_role("button", name="Run again")).to_be_visible()
        again = await until(2, "failed")
        for path in ("/sync", "/sync/broken", "/sync?status=failed"):
            await page.goto(live.address + path)
            await look_at(page)
    assert steps.count == 3
    assert (first.source, again.source) == ("broken", "broken")


async def test_a_run_watched_live_and_cancelled(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    with running(url, **EXAMPLES) as live:
        await sign_in(page, live, "/sync", administrator.email)
        await page.get_by_role("button", name="Run slow", exact=True).click()
        await page.wait_for_url("**/sync/runs/1")
        await page.evaluate("window.same = true")
        cancel = page.get_by_role("button", name="Cancel")
        await cancel.focus()
        seen: set[str | None] = set()
        async with asyncio.timeout(30):
            while len(seen) < 4:  # each figure came by itself
                seen.add(await page.get_by_role("progressbar").get_attribute("value"))
                await asyncio.sleep(0.1)
        assert await page.evaluate("window.same"), "no page was loaded"
        await expect(cancel).to_be_focused()  # although that part of the page is new each second
        await look_at(page)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Cancelled. What it had done")).to_be_visible(timeout=10_000)
        run = await until(1, "cancelled")
        assert await page.evaluate("document.querySelector('[hx-get]') === null")
        await expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert run.cancel_requested_by == administrator.id
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2


async def test_a_run_ends_before_ones_eyes(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    """The page that saw it running shows its end, without a click."""
    await SyncRun(source="quick", status="running").save()
    with running(url, **EXAMPLES) as live:
        await sign_in(page, live, "/sync/runs/1", administrator.email)
        await page.evaluate("window.same = true")
        await expect(page.get_by_role("progressbar")).to_be_visible()
        await db.execute("UPDATE sync_history SET status = 'succeeded', items_synced = 3")
        await expect(page.get_by_role("button", name="Run again")).to_be_visible()
        await expect(page.get_by_role("progressbar")).to_have_count(0)
        assert await page.evaluate("window.same"), "no page was loaded"


async def test_everything_without_scripts(
    browser: Browser, url: str, db: Engine, administrator: User
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    with running(url, **EXAMPLES) as live:
        await sign_in(page, live, "/sync", administrator.email)
        await page.get_by_role("button", name="Dry run of quick").click()
        await until(1, "succeeded")
        await page.reload()
        await expect(page.get_by_text("would sync item 2")).to_be_visible()
        await page.get_by_role("button", name="Run again").click()
        await until(2, "succeeded")
        await page.goto(f"{live.address}/sync/slow")
        await page.get_by_role("button", name="Run", exact=True).click()
        await page.wait_for_url("**/sync/runs/3")
        await page.get_by_role("link", name="Reload").click()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("status")).to_contain_text("It is cancelled")
        await until(3, "cancelled")
        await page.goto(f"{live.address}/sync")
        await page.get_by_label("Status").select_option("cancelled")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.get_by_text("1 run", exact=True)).to_be_visible()
        await page.get_by_role("link", name="3", exact=True).click()
        await page.wait_for_url("**/sync/runs/3")
    await context.close()


async def test_what_a_source_says_is_text(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    with running(url, **EXAMPLES) as live:
        await sign_in(page, live, "/sync", administrator.email)
        await page.get_by_role("button", name="Run rude", exact=True).click()
        await until(1, "failed")
        for path in ("/sync/runs/1", "/sync", "/sync/rude"):
            await page.goto(live.address + path)
            await expect(page.get_by_text("<script>document.title").first).to_be_visible()
            await asyncio.sleep(0.2)
            assert "taken over" not in await page.title()
            assert (
                await page.evaluate("document.querySelectorAll('main script, main img').length")
                == 0
            )
            await look_at(page)
        await page.goto(f"{live.address}/sync/runs/1")
        await expect(page.get_by_text("{{7*7}}").first).to_be_visible()
        await expect(page.get_by_role("heading", name="Where it failed")).to_be_visible()
