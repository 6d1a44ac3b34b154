"""Signing in by a real identity provider, in a real browser, from the first visit to the last."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Page, expect

from home.accounts.tables import Identity
from home.tables import Session, User
from tests.browser.test_account import sign_in
from tests.browser.test_pages import look_at
from tests.conftest import missing
from tests.identity_provider import (
    INSTALL,
    IdentityProvider,
    NotInstalled,
    install,
    running_provider,
)
from tests.live import Live, running
from tests.postgres import free_port

pytestmark = pytest.mark.any_version

GRACE = {"email": "grace@example.com", "email_verified": True, "name": "Grace Hopper"}


@pytest.fixture
def port() -> int:
    """Of the application, whose address its providers have to know."""
    try:
        install()
    except NotInstalled:
        missing("Node.js with oidc-provider", INSTALL)
    return free_port()


@pytest.fixture
def provider(tmp_path: Path, port: int) -> Iterator[IdentityProvider]:
    with running_provider(tmp_path, f"http://127.0.0.1:{port}", "real") as provider:
        provider.know({"grace": GRACE})
        yield provider


@pytest.fixture
def live(provider: IdentityProvider, port: int, url: str) -> Iterator[Live]:
    with running(url, LISTEN_PORT=str(port), **provider.settings) as live:
        yield live


@pytest.fixture(autouse=True)
async def nothing_from_elsewhere(page: Page) -> None:
    """The provider's own pages ask for fonts."""
    await page.context.route(re.compile("^https:"), lambda route: route.fulfill(body=""))


async def say_who(page: Page, name: str) -> None:
    """Sign in at the provider, and consent."""
    await page.locator("input[name=login]").fill(name)
    await page.locator("input[name=password]").fill("any")
    await page.get_by_role("button", name=re.compile("sign-in", re.IGNORECASE)).click()
    await page.get_by_role("button", name=re.compile("continue", re.IGNORECASE)).click()


async def test_the_whole_round(page: Page, live: Live, provider: IdentityProvider) -> None:
    await page.goto(f"{live.address}/account")
    await look_at(page)
    await page.get_by_role("link", name="Sign in with Real").click()
    await say_who(page, "grace")
    await expect(page.get_by_role("alert")).to_contain_text("waits for approval")
    await User.update({User.is_approved: True}).where(User.email == "grace@example.com")

    await page.goto(f"{live.address}/account")
    await page.get_by_role("link", name="Sign in with Real").click()
    await page.wait_for_url("**/account")  # without another question, and to where they wanted
    await expect(page.get_by_text("grace@example.com").first).to_be_visible()
    await look_at(page)

    await page.get_by_role("button", name="Sign out").click()
    provider.stop()
    await page.get_by_role("link", name="Sign in with Real").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")
    await expect(page.get_by_label("Password")).to_be_visible()

    provider.start()  # with another key, and who was signed in forgotten
    await page.get_by_role("link", name="Sign in with Real").click()
    await say_who(page, "grace")
    await page.wait_for_url("**/account")
    there = await page.context.new_page()
    await there.goto(f"{provider.issuer}/session/end")
    await there.get_by_role("button", name=re.compile("yes", re.IGNORECASE)).click()
    await there.wait_for_url("**/success")
    await page.reload()  # of the page that was open meanwhile
    await page.wait_for_url("**/sign-in**")


async def test_signing_out_there_too(page: Page, live: Live, provider: IdentityProvider) -> None:
    await page.goto(f"{live.address}/sign-in/with/real")
    await say_who(page, "grace")
    await User.update({User.is_approved: True}).where(User.email == "grace@example.com")
    await page.goto(f"{live.address}/sign-in/with/real")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("link", name="Sign out of Real, too").click()
    await page.get_by_role("button", name=re.compile("yes", re.IGNORECASE)).click()
    await page.wait_for_url(f"{live.address}/sign-in**")
    await page.goto(f"{live.address}/sign-in/with/real")
    await expect(page.locator("input[name=login]")).to_be_visible()  # it asks again


async def confirm_setup(page: Page) -> pyotp.TOTP:
    """Scan the key that the page shows, and type a code of the period before."""
    app = pyotp.TOTP(await page.locator("code").inner_text())
    await page.get_by_label("Code").fill(app.at(int(time.time()) - 30))
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("status")).to_contain_text("Keep these recovery codes")
    return app


async def test_a_second_factor_without_a_password(
    page: Page, provider: IdentityProvider, port: int, url: str
) -> None:
    settings = {**provider.settings, "OIDC_REAL_APPROVES": "true", "MFA_KEY": "k" * 32}
    with running(url, LISTEN_PORT=str(port), **settings) as live:
        await page.goto(f"{live.address}/second-factor")
        await look_at(page)
        await page.get_by_role("link", name="Sign in with Real").click()
        await say_who(page, "grace")
        await page.wait_for_url("**/second-factor")
        await page.goto(f"{live.address}/account")
        await look_at(page)
        await Session.update({"created_at": Session.created_at - timedelta(minutes=11)}, force=True)
        await page.get_by_role("link", name="Set up", exact=True).click()
        await look_at(page)
        await page.get_by_role("link", name="Sign in with Real").click()
        await page.wait_for_url("**/second-factor")  # the provider knows who it is
        await look_at(page)
        await page.get_by_role("button", name="Set up").click()
        app = await confirm_setup(page)
        await page.get_by_role("link", name="Sign in", exact=True).last.click()
        await page.get_by_role("link", name="Sign in with Real").click()
        await page.get_by_label("Code").fill(app.now())
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/account")
        await expect(page.get_by_text("asks for a code of your authenticator app")).to_be_visible()


async def test_an_administrator_who_must_have_a_second_factor(
    page: Page, provider: IdentityProvider, port: int, url: str
) -> None:
    provider.know({"grace": {**GRACE, "groups": ["admins"]}})
    roles = {"OIDC_REAL_APPROVES": "true", "OIDC_REAL_ROLES": "groups=admins:admin"}
    required = {"MFA_KEY": "k" * 32, "MFA_REQUIRED": "true"}
    with running(url, LISTEN_PORT=str(port), **provider.settings, **roles, **required) as live:
        await page.goto(f"{live.address}/sign-in/with/real?next=/people")
        await say_who(page, "grace")
        await expect(page.get_by_text("Administrators need a second factor")).to_be_visible()
        await look_at(page)
        app = await confirm_setup(page)
        await page.goto(f"{live.address}/sign-in/with/real?next=/people")
        await page.get_by_label("Code").fill(app.now())
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/people")


async def test_a_second_provider_is_linked_and_roles_follow_its_claims(
    page: Page, provider: IdentityProvider, port: int, url: str, tmp_path: Path, member: User
) -> None:
    address = f"http://127.0.0.1:{port}"
    with running_provider(tmp_path, address, "second") as second:
        second.know({"mel": {"groups": ["staff", "admins"]}})
        roles = {"OIDC_SECOND_ROLES": "groups=admins:admin"}
        settings = {**provider.settings, **second.settings, **roles}
        with running(url, LISTEN_PORT=str(port), **settings) as live:
            await sign_in(page, live, "/account", member.email)
            for name in ("Real", "Second"):
                await page.get_by_text("Link another").click()
                await page.get_by_label("Your password").fill("correct horse battery")
                await page.get_by_role("button", name=f"Link {name}").click()
                await say_who(page, "mel")
                await expect(page.get_by_role("status")).to_contain_text("opens your account")
            await look_at(page)
            assert await Identity.count().where(Identity.user_id == member.id) == 2
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_role("link", name="Sign in with Second").click()
            await page.wait_for_url(f"{live.address}/")
            await expect(page.get_by_role("link", name="People")).to_be_visible()
