"""The pages before and beside the back office: by keyboard, on a phone, for a screen reader."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path

import pyotp
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, ViewportSize, expect

from home.tables import User
from tests.browser.test_admin import sign_in
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

PAGES = ["/", "/sign-in", "/register", "/second-factor", "/api/docs"]
PHONE, DESKTOP = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=800)


WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
_numbers = itertools.count()


async def look_at(page: Page) -> None:
    """No serious finding of axe-core, nothing wider than the window, in light and in dark."""
    for scheme, size in (("light", PHONE), ("dark", DESKTOP)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size(size)
        found = await Axe().run(page)
        serious = [
            (each["id"], [node["html"] for node in each["nodes"]])
            for each in found.response["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], (page.url, scheme, size)
        assert not await page.evaluate(WIDE), (page.url, size)
        if folder := os.environ.get("PICTURES"):  # for who wants to look themselves
            name = f"{await page.title()} {next(_numbers):03} {scheme} {size['width']}.png"
            await page.screenshot(path=Path(folder) / name.replace("/", " "), full_page=True)


async def test_pages_are_for_everybody(page: Page, url: str, administrator: User) -> None:
    with running(url, MFA_KEY="k" * 32) as live:
        for path in PAGES:
            await page.goto(live.address + path)
            await look_at(page)
        await sign_in(page, live.address, "ada@example.com")
        await page.goto(live.address)
        await expect(page.get_by_role("heading", name="Audit trail")).to_be_visible()
        await look_at(page)


async def test_signing_in_by_keyboard_alone(page: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await page.goto(f"{live.address}/")
        for _ in range(3):  # past what skips the head, and the title, to the link
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/sign-in")
        await page.keyboard.type("ada@example.com")
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await expect(page.get_by_text("ada@example.com")).to_be_visible()


async def test_asking_being_approved_and_coming_in(
    page: Page, url: str, administrator: User
) -> None:
    with running(url) as live:
        await page.goto(f"{live.address}/register")
        await page.get_by_label("E-mail address").fill("eve@example.com")
        await page.get_by_label("Your name").fill("Eve <b>")
        await page.get_by_label("Password").fill("a rather long phrase")
        await page.get_by_role("button").click()
        await expect(page.get_by_text("has been asked")).to_be_visible()

        await sign_in(page, live.address, "ada@example.com")
        await page.goto(live.address)
        await page.get_by_role("link", name="awaiting approval: 1").click()
        await expect(page.get_by_text("eve@example.com")).to_be_visible()
        await page.goto(f"{live.address}/admin/#/forms/approve-a-person")
        await page.locator("[name=email]").fill("eve@example.com")
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_text("is approved and can sign in")).to_be_visible()

        await page.context.clear_cookies()
        await page.goto(f"{live.address}/sign-in")
        await page.get_by_label("E-mail address").fill("eve@example.com")
        await page.get_by_label("Password").fill("a rather long phrase")
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/account")
        await expect(page.get_by_text("eve@example.com").first).to_be_visible()


async def test_setting_up_a_second_factor_and_using_it(
    page: Page, url: str, administrator: User
) -> None:
    with running(url, MFA_KEY="k" * 32) as live:
        await page.goto(f"{live.address}/second-factor")
        await page.get_by_label("E-mail address").fill("ada@example.com")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Set up").click()
        secret = await page.locator("code", has_text=re.compile("^[A-Z2-7]{32}$")).inner_text()
        assert await page.locator("img.qr").evaluate("image => image.naturalWidth > 100")
        await look_at(page)
        code = pyotp.TOTP(secret)
        await page.get_by_label("Code").fill(code.at(time.time() - 30))
        await page.get_by_role("button", name="Turn on").click()
        await expect(page.locator(".codes li")).to_have_count(8)

        await page.goto(f"{live.address}/sign-in")
        await page.get_by_label("E-mail address").fill("ada@example.com")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_label("Code").fill(code.now())
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await expect(page.get_by_text("ada@example.com")).to_be_visible()
