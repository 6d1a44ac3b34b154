"""Tasks of a day and how many steps they take, each begun where one lands after signing in."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from playwright.async_api import Page, expect

from audit.context import Actor, acting_as
from audit.digests import SealKeys
from audit.seals import seal
from home.database.engine import Engine
from home.tables import Session, User
from tests.audit.trails import fill
from tests.browser.steps import Steps
from tests.browser.test_account import sign_in
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

NEW_PASSWORD = "another rather long phrase"


async def test_somebody_left(
    page: Page, url: str, db: Engine, administrator: User, member: User
) -> None:
    """Find them, see what they did, disable them, end their sessions."""
    await Session.create_session(member.id)
    with acting_as(Actor(member.email, member.id, "10.1.2.3")):
        await db.execute("UPDATE users SET organization = 'Navy' WHERE id = $1", member.id)
    with running(url) as live:
        await sign_in(page, live, "/sign-in", administrator.email)
        steps = Steps(page)
        await steps.link("People")
        await steps.click(page.get_by_role("link", name="Active"))
        await steps.link(member.email)
        did = page.get_by_role("heading", name="What they did").locator("xpath=following::div[1]")
        await expect(did).to_contain_text("Navy")
        await steps.button("Disable…")
        await steps.button(f"Disable {member.email}")
        await expect(page.get_by_role("status")).to_have_text(f"Disabled {member.email}.")
        await expect(page.get_by_text("Signed in nowhere.")).to_be_visible()
        assert steps.count == 5
        assert not await Session.exists().where(Session.user_id == member.id)


async def test_the_trail_is_verified(page: Page, url: str, db: Engine, administrator: User) -> None:
    await fill(db, 1, 40)
    await seal(db, SealKeys(None))
    with running(url) as live:
        await sign_in(page, live, "/sign-in", administrator.email)
        steps = Steps(page)
        await steps.link("Trail")
        await steps.link("Seals")
        await steps.button("Verify now")
        await expect(page.get_by_text("as sealed")).to_be_visible(timeout=30_000)
        assert steps.count == 3


async def test_the_own_password_is_changed(page: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await sign_in(page, live, "/sign-in", administrator.email)
        steps = Steps(page)
        await steps.link("Account")
        await steps.fill("Current password", PASSWORD)
        await steps.fill("New password", NEW_PASSWORD)
        await steps.fill("New password, once more", NEW_PASSWORD)
        await steps.button("Change password")
        await expect(page.get_by_role("status")).to_contain_text("Your password is changed.")
        assert steps.count == 5


async def test_the_session_on_a_lost_laptop_is_ended(page: Page, url: str, member: User) -> None:
    await Session.create_session(member.id)
    with running(url) as live:
        await sign_in(page, live, "/sign-in", member.email)
        await page.wait_for_url("**/account")
        steps = Steps(page)
        await steps.click(page.get_by_role("button", name=re.compile("^End Unknown device")))
        await expect(page.get_by_role("status")).to_have_text("The session has ended.")
        assert steps.count == 1


async def test_a_second_factor_is_set_up(page: Page, url: str, member: User) -> None:
    with running(url, MFA_KEY="k" * 32) as live:
        await sign_in(page, live, "/sign-in", member.email)
        await page.wait_for_url("**/account")
        steps = Steps(page)
        await steps.link("Set up")
        await steps.fill("Password", PASSWORD)
        await steps.button("Set up")
        secret = await page.locator("code", has_text=re.compile("^[A-Z2-7]{32}$")).inner_text()
        await steps.fill("Code", pyotp.TOTP(secret).at(time.time() - 30))
        await steps.button("Turn on")
        await expect(page.locator(".codes li")).to_have_count(8)
        assert steps.count == 5
