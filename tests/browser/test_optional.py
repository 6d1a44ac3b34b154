"""Pages of what only some set up: tokens, services, invitations, messages."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from home.tables import User
from tests.browser.test_account import sign_in
from tests.browser.test_pages import look_at
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

MESSAGES = {
    "PUBLIC_URL": "http://localhost", "SMTP_URL": "smtp://127.0.0.1:9",
    "MAIL_FROM": "tools@example.com",
}  # fmt: skip


async def test_a_token_of_ones_own(page: Page, url: str, member: User) -> None:
    with running(url, API_TOKENS="true") as live:
        await sign_in(page, live, "/account", member.email)
        await page.get_by_text("Make a token…").click()
        await page.get_by_label("Name of the program").fill("deploy")
        await page.get_by_label("change what the account").check()
        await page.get_by_label("Good for").select_option("30 days")
        await page.get_by_label("Your password").fill(PASSWORD)
        await look_at(page)
        await page.get_by_role("button", name="Make it, and show it once").click()
        token = await page.get_by_role("status").locator("code").inner_text()
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{live.address}/api/me", headers=headers).status_code == 200
        await look_at(page)
        await page.get_by_role("button", name="End the token deploy").click()
        await expect(page.get_by_role("status")).to_have_text("The token has ended.")
        assert httpx.get(f"{live.address}/api/me", headers=headers).status_code == 401


async def test_a_service_and_its_token(page: Page, url: str, administrator: User) -> None:
    with running(url, API_TOKENS="true") as live:
        await sign_in(page, live, "/people?group=services", administrator.email)
        await page.get_by_text("New service account").click()
        await page.get_by_label("Address, such as").fill("deploy@example.com")
        await page.get_by_label("Name", exact=True).fill("Deployments")
        await look_at(page)
        await page.get_by_role("button", name="Make the account").click()
        await expect(page.get_by_role("heading", name="Deployments")).to_be_visible()
        await page.get_by_text("Make a token…").click()
        await page.get_by_label("Name of the program").fill("ci")
        await page.get_by_role("button", name="Make it, and show it once").click()
        await expect(page.get_by_role("status").locator("code")).to_contain_text("gw_")
        await look_at(page)


async def test_an_invitation_that_is_handed_over(page: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await sign_in(page, live, "/people", administrator.email)
        await page.get_by_text("Invite somebody").click()
        await page.get_by_label("E-mail address").fill("new@example.com")
        await page.get_by_label("Name", exact=True).fill("Nel")
        await page.get_by_role("button", name="Invite").click()
        link = await page.get_by_role("status").locator("code").inner_text()
        await look_at(page)
        await page.get_by_role("button", name="Sign out").click()
        await page.goto(link)
        await look_at(page)
        await page.get_by_label("Password", exact=True).fill("a rather long passphrase")
        await page.get_by_label("Once more").fill("a rather long passphrase")
        await page.get_by_role("button", name="Store it").click()
        await page.get_by_label("E-mail address").fill("new@example.com")
        await page.get_by_label("Password").fill("a rather long passphrase")
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/account")


async def test_messages_and_who_forgot(page: Page, url: str, administrator: User) -> None:
    with running(url, **MESSAGES) as live:
        await page.goto(f"{live.address}/sign-in")
        await page.get_by_role("link", name="Forgotten password").click()
        await look_at(page)
        await page.get_by_label("E-mail address").fill(administrator.email)
        await page.get_by_role("button", name="Send a link").click()
        await expect(page.get_by_role("status")).to_contain_text("on its way")
        await sign_in(page, live, "/messages", administrator.email)
        row = page.get_by_role("row", name=re.compile("link.password"))
        await expect(row).to_contain_text("waits")
        await look_at(page)
        await row.get_by_role("button", name=re.compile("Send link.password")).click()
        await expect(page.get_by_role("status")).to_have_text("It is tried again now.")
