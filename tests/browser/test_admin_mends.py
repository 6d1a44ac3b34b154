"""What our script and stylesheet mend of piccolo-admin's pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from home.database.engine import Engine
from home.tables import User
from tests.browser.test_admin import sign_in
from tests.live import Live, running

pytestmark = pytest.mark.any_version

READ_ONLY = [
    "user_preferences", "authenticator_secrets", "audit_logs", "audit_seals", "sync_history",
    "directory_people",
]  # fmt: skip


@pytest.fixture
async def refused(browser: Browser) -> AsyncIterator[Page]:
    """A window in which answers of 4xx are expected; the test fails on an error of a script."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-GB", timezone_id="UTC"
    )
    page = await context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    await context.close()
    assert problems == []


async def list_of(page: Page, live: Live, table: str) -> None:
    await page.goto(f"{live.address}/admin/#/{table}")
    heading = page.get_by_role("heading", name=table.replace("_", " "))
    await expect(heading).to_be_visible()
    await expect(page.get_by_text("Showing")).to_be_visible()


async def test_a_time_that_is_not_there_is_not_shown(
    page: Page, url: str, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(page, live.address, administrator.email)
        await list_of(page, live, "users")
        saved = page.locator("input[name=last_login_at]")
        shown = page.locator("div:has(> input[name=last_login_at]) input[type=datetime-local]")
        for _ in range(2):
            await page.get_by_role("link", name=str(administrator.id), exact=True).click()
            await expect(page.locator("input[name=email]")).to_have_value(administrator.email)
            await expect(saved).not_to_have_value("")
            await expect(shown).not_to_have_value("")
            await page.go_back()
            await page.get_by_role("link", name=str(member.id), exact=True).click()
            await expect(page.locator("input[name=email]")).to_have_value(member.email)
            await expect(saved).to_have_value("")
            await expect(shown).to_have_value("")
            await page.go_back()
        # Who types a time is left alone.
        await page.get_by_role("link", name=str(member.id), exact=True).click()
        await expect(page.locator("input[name=email]")).to_have_value(member.email)
        await shown.fill("2026-03-01T12:00:01")
        await page.wait_for_timeout(500)
        await expect(shown).to_have_value("2026-03-01T12:00:01")
        await expect(saved).to_have_value("2026-03-01T12:00:01.000Z")


async def test_no_buttons_for_what_nobody_may_do(
    page: Page, url: str, db: Engine, administrator: User, member: User
) -> None:
    await db.execute("INSERT INTO sync_history (source, status) VALUES ('crm', 'failed')")
    with running(url, DIRECTORY_URL="/nowhere.csv") as live:
        await sign_in(page, live.address, administrator.email)
        for table in READ_ONLY:
            await page.goto(f"{live.address}/admin/#/{table}")
            await expect(page.locator("[data-uitest=csv_button]")).to_be_visible()
            await expect(page.get_by_text("Add Row")).to_be_hidden()
            await page.goto(f"{live.address}/admin/#/{table}/add/")
            await expect(page.get_by_role("heading", name="Add")).to_be_visible()
            await expect(page.get_by_role("button", name="Create")).to_be_hidden()
        for table in ("audit_logs", "sync_history"):
            await list_of(page, live, table)
            await page.locator("table:has(thead) tbody input[type=checkbox]").first.check()
            await expect(page.get_by_text("selected result(s)")).to_be_visible()
            await expect(page.get_by_text("Update 1 rows")).to_be_hidden()
            await expect(page.get_by_text("Delete 1 rows")).to_be_hidden()
            await page.get_by_role("link", name="1", exact=True).first.click()
            await page.locator("form input").first.wait_for(state="attached")
            await expect(page.get_by_role("button", name="Save")).to_be_hidden()
        # What can be done still has its buttons.
        await list_of(page, live, "users")
        await expect(page.get_by_text("Add Row")).to_be_hidden()
        await page.locator("table:has(thead) tbody input[type=checkbox]").first.check()
        await expect(page.get_by_text("Update 1 rows")).to_be_visible()
        await expect(page.get_by_text("Delete 1 rows")).to_be_visible()
        await page.get_by_role("link", name=str(member.id), exact=True).click()
        await expect(page.get_by_role("button", name="Save")).to_be_visible()
        await list_of(page, live, "sessions")
        await page.locator("table:has(thead) tbody input[type=checkbox]").first.check()
        await expect(page.get_by_text("Update 1 rows")).to_be_hidden()
        await expect(page.get_by_text("Delete 1 rows")).to_be_visible()


async def test_a_refused_change_of_many_is_told(
    refused: Page, url: str, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, administrator.email)
        await list_of(refused, live, "users")
        await refused.locator("table:has(thead) tbody input[type=checkbox]").nth(1).check()
        await refused.get_by_text("Update 1 rows").click()
        await refused.locator("select[name=property]").select_option("is_disabled")
        await refused.locator("select[name=is_disabled]").select_option("true")
        await refused.get_by_role("button", name="Update", exact=True).click()
        sentence = "Use the forms to approve, reject, disable or enable somebody."
        await expect(refused.locator("#message_popup")).to_contain_text(sentence)
        await refused.locator("select[name=property]").select_option("email")
        await refused.locator("input[name=email]").last.fill("ada@example.com")
        await refused.get_by_role("button", name="Update", exact=True).click()
        sentence = "There is already an account with this e-mail address."
        await expect(refused.locator("#message_popup")).to_contain_text(sentence)


async def test_raw_json_is_told_in_words(
    refused: Page, url: str, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, administrator.email)
        await refused.goto(f"{live.address}/admin/#/users/{member.id}")
        await expect(refused.locator("input[name=email]")).to_have_value(member.email)
        await refused.locator("[name=display_name]").fill("x" * 2_000_000)
        await refused.get_by_role("button", name="Save").click()
        told = refused.locator("li", has_text="A request holds at most 1 MiB.")
        await expect(told).to_have_text("A request holds at most 1 MiB.")


async def test_a_refusal_without_its_shape_is_told(
    refused: Page, url: str, administrator: User
) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, administrator.email)
        await refused.goto(f"{live.address}/admin/#/change-password/")
        for field in await refused.locator("input").all():
            await field.fill("x" * 2_000_000)
        await refused.get_by_role("button", name="Change").click()
        popup = refused.locator("#message_popup")
        await expect(popup).to_contain_text("A request holds at most 1 MiB.")
        assert "undefined" not in await popup.inner_text()


async def test_attention_has_no_green_tick_and_health_no_red_cross(
    page: Page, url: str, db: Engine, administrator: User
) -> None:
    await db.execute(
        "INSERT INTO sync_history (source, status, needs_attention)"
        " VALUES ('crm', 'succeeded', false), ('crm', 'failed', true)"
    )
    with running(url) as live:
        await sign_in(page, live.address, administrator.email)
        await list_of(page, live, "sync_history")
        for row, answer in ((0, "yes"), (1, "no")):
            cell = page.locator("table:has(thead) tbody tr").nth(row).locator("td[data-alarm]")
            await expect(cell).to_have_attribute("data-alarm", answer)
            assert await cell.locator("svg").evaluate_all(
                "all => all.every((each) => getComputedStyle(each).display === 'none')"
            )
            said = "getComputedStyle(cell, '::after')"
            assert await cell.evaluate(f"cell => {said}.content") == f'"{answer}"'
        await list_of(page, live, "users")
        colours = await page.locator("td svg.correct, td svg.incorrect").evaluate_all(
            "all => all.map((each) => getComputedStyle(each).color)"
        )
        assert len(set(colours)) == 1, "yes and no look alike: they are neither good nor bad"
