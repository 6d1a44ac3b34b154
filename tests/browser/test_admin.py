"""The administrator's path through the back office."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.async_api import Page, expect

from home.tables import User
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

TABLES = [
    "users",
    "user_preferences",
    "sessions",
    "authenticator_secrets",
    "audit_logs",
    "audit_seals",
    "sync_history",
]


async def sign_in(page: Page, address: str, email: str) -> None:
    await page.goto(f"{address}/admin/")  # which leads to our own page for it
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text(email)).to_be_visible()


async def test_signing_in_and_opening_each_table(page: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await sign_in(page, live.address, "ada@example.com")
        for table in TABLES:
            await page.goto(f"{live.address}/admin/#/{table}")
            await expect(page.get_by_role("heading", name=table.replace("_", " "))).to_be_visible()


async def test_changing_someones_name(page: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await sign_in(page, live.address, "ada@example.com")
        await page.goto(f"{live.address}/admin/#/users/{administrator.id}")
        await expect(page.locator("input[name=email]")).to_have_value("ada@example.com")
        await page.locator("[name=display_name]").fill("Ada Lovelace")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Successfully saved")).to_be_visible()
        await page.goto(f"{live.address}/admin/#/audit_logs?action=users.update")
        await expect(page.get_by_role("cell", name="users.update")).to_be_visible()
        await expect(page.get_by_role("cell", name="127.0.0.1")).to_be_visible()
        await page.get_by_role("cell", name="ada@example.com").first.wait_for()
    user = await User.objects().first()
    assert user is not None
    assert user.display_name == "Ada Lovelace"
    assert await User.login("ada@example.com", PASSWORD) == administrator.id


async def exported(page: Page) -> list[str]:
    """Return the display names in the CSV of the list that is shown."""
    async with page.expect_download() as download:
        await page.get_by_text("Export CSV").first.click()
    saved = await (await download.value).path()
    assert (await download.value).suggested_filename == "users.csv"
    lines = csv.DictReader(io.StringIO(saved.read_text(encoding="utf-8")))
    return [line["display_name"] for line in lines]


async def test_lists_as_csv_hold_no_formulas(page: Page, url: str, administrator: User) -> None:
    formula = '=HYPERLINK("https://evil.example","look")'
    await User.create_user("eve@example.com", PASSWORD, display_name=formula)
    await User.create_user("zoe@example.com", PASSWORD, display_name="Zoe")
    with running(url) as live:
        await sign_in(page, live.address, "ada@example.com")
        await page.goto(f"{live.address}/admin/#/users")
        await expect(page.get_by_role("cell", name="zoe@example.com")).to_be_visible()
        assert await exported(page) == ["", f"'{formula}", "Zoe"]
        await page.get_by_text("Show filters").click()
        await page.locator("[name=email]").fill("eve@")
        async with page.expect_response(lambda answer: "email=eve" in answer.url):
            await page.get_by_role("button", name="Apply").click()
        await expect(page.get_by_role("cell", name="eve@example.com")).to_be_visible()
        await expect(page.get_by_role("cell", name="zoe@example.com")).not_to_be_visible()
        assert await exported(page) == [f"'{formula}"]
        await page.goto(f"{live.address}/admin/#/users?email=zoe@")
        await expect(page.get_by_role("cell", name="zoe@example.com")).to_be_visible()
        assert await exported(page) == ["Zoe"]
