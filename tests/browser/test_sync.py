"""An administrator starts a sync, watches it, and cancels it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page, expect

from home.database.engine import Engine
from home.tables import User
from sync_history.tables import SyncRun
from tests.browser.test_admin import sign_in
from tests.live import running
from tests.sync_history.conftest import until

pytestmark = pytest.mark.any_version

EXAMPLES = "tests.sync_history.examples"


async def test_starting_watching_and_cancelling(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    with running(url, SYNC_SOURCES=EXAMPLES, SYNC_SCHEDULER="false") as live:
        await sign_in(page, live.address, "ada@example.com")
        await page.goto(f"{live.address}/admin/#/forms/start-a-sync")
        await expect(page.get_by_text("Sources: broken, partly, quick, ")).to_be_visible()
        await page.locator("input[name=source]").fill("slow")
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_text("Run 1 of slow has begun")).to_be_visible()
        shown = []
        for _ in range(2):
            await page.goto(f"{live.address}/admin/#/sync_history")
            await page.reload()
            await expect(page.get_by_role("cell", name="running")).to_be_visible()
            shown.append(await page.get_by_role("row").nth(1).inner_text())
            await asyncio.sleep(1.2)
        assert shown[0] != shown[1], "the figures go up while it runs"
        await page.goto(f"{live.address}/admin/#/forms/cancel-a-run")
        await page.locator("input[name=run]").fill("1")
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_text("Run 1 of slow is cancelled")).to_be_visible()
        [run] = await SyncRun.objects()
        run = await until(run.id, "cancelled")
    assert (run.completed_at - run.cancel_requested_at).total_seconds() < 2
    assert run.cancel_requested_by == administrator.id
