"""The account, the errors and the way in and back, as people use them in a browser."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from playwright.async_api import Browser, Page, expect

from home.tables import Session, User
from tests.browser.test_pages import look_at
from tests.conftest import PASSWORD
from tests.live import Live, running

pytestmark = pytest.mark.any_version


async def sign_in(page: Page, live: Live, path: str, email: str) -> None:
    """Open a page, and sign in where it leads."""
    await page.goto(live.address + path)
    await page.wait_for_url("**/sign-in**")
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(lambda where: "/sign-in" not in where)


async def test_the_account_in_all_its_parts(page: Page, url: str, member: User) -> None:
    with running(url, MFA_KEY="k" * 32, APP_NAME="Tool shed") as live:
        await sign_in(page, live, "/account", member.email)
        await Session.create_session(member.id)
        await expect(page).to_have_title("Account · Tool shed")
        await page.get_by_label("Name").fill("Mel " + "of a very long name " * 8)
        await page.get_by_label("Organization").fill("<script>alert(1)</script>")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status")).to_have_text("Saved.")
        await expect(page.get_by_text("Chrome on Linux")).to_be_visible()
        await look_at(page)
        await page.get_by_role("button", name=re.compile("^End Unknown device")).click()
        await expect(page.get_by_role("status")).to_have_text("The session has ended.")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download everything").click()
        assert (await download.value).suggested_filename == "account.json"
        await page.get_by_label("Current password").fill(PASSWORD)
        await page.get_by_label("New password", exact=True).fill("another rather long phrase")
        await page.get_by_label("New password, once more").fill("another rather long phrase")
        await page.get_by_role("button", name="Change password").click()
        await expect(page.get_by_role("status")).to_contain_text("Your password is changed.")
        await expect(page.get_by_text("The password was changed")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("status")).to_have_text("You are signed out.")
        await look_at(page)


async def test_the_account_without_scripts(browser: Browser, url: str, member: User) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    with running(url) as live:
        await sign_in(page, live, "/account", member.email)
        await page.get_by_label("Name").fill("Mel")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status")).to_have_text("Saved.")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await context.close()


async def test_a_link_into_the_back_office_survives_signing_in(
    page: Page, url: str, administrator: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/admin/#/users", administrator.email)
        await expect(page.get_by_role("heading", name="users")).to_be_visible()
        assert page.url == f"{live.address}/admin/#/users"


async def test_a_session_that_ends_in_mid_work_leads_back_and_keeps_what_was_typed(
    page: Page, url: str, member: User, administrator: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/account", member.email)
        for email, shown in ((administrator.email, ""), (member.email, "half-filled")):
            await page.get_by_label("Name").fill("half-filled")
            await Session.delete(force=True)
            await page.get_by_role("button", name="Save").click()
            await page.wait_for_url("**/sign-in?next=/account")
            await page.get_by_label("E-mail address").fill(email)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible()
            await expect(page.get_by_label("Name")).to_have_value(shown)
            if not shown:  # what one had typed is nothing for another
                await page.get_by_role("button", name="Sign out").click()
                await sign_in(page, live, "/account", member.email)
        await expect(page.get_by_text("not saved yet")).to_be_visible()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status")).to_have_text("Saved.")
        await page.reload()
        await expect(page.get_by_label("Name")).to_have_value("half-filled")
        await expect(page.get_by_text("not saved yet")).to_have_count(0)


async def test_a_part_of_a_page_that_meets_no_session_leads_to_sign_in(
    page: Page, url: str, member: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/account", member.email)
        await page.add_script_tag(url="/static/htmx.min.js")
        await page.evaluate("htmx.ajax('GET', '/account', {target: '#history', select: 'h1'})")
        await expect(page.locator("#history")).to_have_text("Account")
        await Session.delete(force=True)
        await page.evaluate("htmx.ajax('GET', '/account', '#main')")
        await page.wait_for_url("**/sign-in?next=/account")


async def test_a_session_that_ends_in_the_back_office_leads_back_there(
    page: Page, url: str, administrator: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/admin/", administrator.email)
        await page.goto(f"{live.address}/admin/#/sessions")
        await expect(page.get_by_role("heading", name="sessions")).to_be_visible()
        await Session.delete(force=True)
        await page.goto(f"{live.address}/admin/#/users")
        await page.wait_for_url("**/sign-in?next=/admin/#/users")
        await page.get_by_label("E-mail address").fill(administrator.email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="users")).to_be_visible()
        assert page.url == f"{live.address}/admin/#/users"


async def test_the_second_factor_asks_for_the_password_once(
    page: Page, url: str, member: User
) -> None:
    with running(url, MFA_KEY="k" * 32) as live:
        await sign_in(page, live, "/account", member.email)
        await page.get_by_role("link", name="Set up").click()
        await expect(page.get_by_label("E-mail address")).to_have_value(member.email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Set up").click()
        secret = await page.locator("code", has_text=re.compile("^[A-Z2-7]{32}$")).inner_text()
        code = pyotp.TOTP(secret)
        await page.get_by_label("Code").fill(code.at(time.time() - 30))
        await page.get_by_role("button", name="Turn on").click()
        await expect(page.locator(".codes li")).to_have_count(8)
        await page.goto(f"{live.address}/account")
        await page.get_by_label("E-mail address").fill(member.email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text(f"Signing in as {member.email}")).to_be_visible()
        await expect(page.get_by_label("Password")).to_have_count(0)
        await look_at(page)
        await page.get_by_label("Code").fill(code.now())
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible()
        await expect(page.get_by_text("asks for a code")).to_be_visible()


async def test_errors_are_pages(browser: Browser, url: str, member: User) -> None:
    context = await browser.new_context()  # whose console may say 404
    page = await context.new_page()
    with running(url) as live:
        await sign_in(page, live, "/account", member.email)
        answer = await page.goto(f"{live.address}/nowhere")
        assert answer is not None
        assert answer.status == 404
        await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
        await expect(page.get_by_text(member.email)).to_be_visible()
        await expect(page.get_by_text(answer.headers["x-request-id"])).to_be_visible()
        await look_at(page)
        await page.get_by_role("link", name="To the start page").click()
        await expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible()
    await context.close()
