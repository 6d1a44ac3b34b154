"""The trail as an auditor uses it: in a few steps, on a phone, by keyboard, without scripts."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from audit.context import Actor, acting_as
from audit.digests import SealKeys
from audit.record import Event, record_many
from audit.seals import seal
from audit.tables import AuditLog
from home.database.engine import Engine
from home.tables import User
from tests.audit.trails import fill
from tests.browser.steps import Steps
from tests.browser.test_account import sign_in
from tests.browser.test_pages import DESKTOP, PHONE, look_at
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

HOSTILE = "<script>alert(1)</script> {{7*7}} \u202eabc " + "very-long-" * 12


@pytest.fixture
async def auditor(db: Engine, administrator: User, member: User) -> User:
    """Vera; and a trail in which Ada made Bob an administrator."""
    names = {administrator.id: "Ada", member.id: "Bob Noyce"}
    for id_, name in names.items():
        await db.execute("UPDATE users SET display_name = $1 WHERE id = $2", name, id_)
    await fill(db, 1, 40)
    await seal(db, SealKeys(None))
    with acting_as(Actor(administrator.email, administrator.id, "10.1.2.3", "9f2c11d0a7b34e55")):
        async with db.transaction():
            await db.execute("UPDATE users SET is_admin = true WHERE id = $1", member.id)
            await db.execute(
                "UPDATE users SET organization = $1, clerk_id = 'c' WHERE id = $2",
                HOSTILE, member.id,
            )  # fmt: skip
    with acting_as(Actor("anonymous", None, "10.6.6.6", "77aa")):
        details = {"network": "10.6.6.6"}
        failed = Event("sign_in.failed", "sign_in", "mel@example.com", details)
        await record_many(db, [failed] * 3)
    with acting_as(Actor("sync:directory")):
        await db.execute("UPDATE users SET is_disabled = false, organization = 'x' WHERE id = $1",
                         administrator.id)  # fmt: skip
    rights = {"is_auditor": True, "is_approved": True, "display_name": "Vera"}
    return await User.create_user("vera@example.com", PASSWORD, **rights)


async def picture(page: Page, name: str) -> None:
    """Keep a picture for who wants to look, in each size and scheme."""
    if not (folder := os.environ.get("PICTURES")):
        return
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for size in (PHONE, DESKTOP):
            await page.set_viewport_size(size)
            path = Path(folder) / f"{name}-{scheme}-{size['width']}.png"
            await page.screenshot(path=path, full_page=True)


async def test_who_changed_a_role_last_week_and_from_what(
    page: Page, url: str, auditor: User, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/sign-in", auditor.email)
        await page.wait_for_url("**/trail")
        await picture(page, "trail")
        await look_at(page)
        steps = Steps(page)
        await steps.fill("Changed column", "is_admin")
        await steps.choose("When", "7")
        await steps.button("Filter")
        entry = page.locator(".entry")
        await expect(entry).to_have_count(1)
        await expect(entry).to_contain_text(
            "ada@example.com (Ada) made mel@example.com (Bob Noyce) an administrator"
        )
        await expect(entry).to_contain_text("is_admin no → yes")
        await expect(entry).to_contain_text("10.1.2.3")
        await expect(entry).to_contain_text("2 changes in this request")
        assert steps.count == 3
        await entry.locator("a.time").click()
        await expect(page.get_by_role("heading", name=re.compile("^Change "))).to_be_visible()
        await expect(page.locator("ins", has_text="yes").first).to_be_visible()
        await expect(page.get_by_text("not sealed yet")).to_be_visible()
        await picture(page, "change")
        await look_at(page)
        await page.get_by_role("link", name="its life").click()
        await expect(
            page.get_by_role("heading", name="The life of mel@example.com (Bob Noyce)")
        ).to_be_visible()
        await picture(page, "life")
        await look_at(page)


async def test_failed_sign_ins_of_an_address_are_exported(
    page: Page, url: str, auditor: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/trail", auditor.email)
        steps = Steps(page)
        await steps.fill("From address", "10.6.6.6")
        await steps.button("Filter")
        await expect(page.locator(".entry")).to_have_count(3)
        await expect(page.locator(".entry").first).to_contain_text(
            "Somebody not signed in failed to sign in as mel@example.com"
        )
        async with page.expect_download() as download:
            await steps.button("Export NDJSON")
        assert steps.count == 3
        path = await (await download.value).path()
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [row["action"] for row in rows] == ["sign_in.failed"] * 3
        details = await AuditLog.select().where(AuditLog.action == "audit.export").first()
        assert details is not None


async def test_the_filters_by_keyboard_and_a_refusal_keeps_them(
    browser: Browser, url: str, auditor: User
) -> None:
    context = await browser.new_context()  # whose console may say 422
    page = await context.new_page()
    with running(url) as live:
        await sign_in(page, live, "/trail", auditor.email)
        await page.get_by_label("Person").focus()
        await page.keyboard.type("ada@example.com")
        await page.keyboard.press("Enter")
        await expect(page.locator(".entry")).to_have_count(2)
        await page.goto(f"{live.address}/trail?person=ada%40example.com&record=7")
        await expect(page.get_by_role("alert")).to_contain_text("A record needs its table")
        await expect(page.get_by_label("Person")).to_have_value("ada@example.com")
        await look_at(page)
    await context.close()


async def test_verifying_with_live_progress(
    page: Page, url: str, db: Engine, auditor: User, administrator: User
) -> None:
    await fill(db, 1_000, 60_000)
    await seal(db, SealKeys(None))
    with running(url) as live:
        await sign_in(page, live, "/trail/seals", administrator.email)
        await picture(page, "seals")
        await page.get_by_role("button", name="Verify now").click()
        if await page.locator("progress").count():
            await picture(page, "verifying")
        await expect(page.get_by_text("as sealed")).to_be_visible(timeout=30_000)
        await expect(page.get_by_text(re.compile("Verified just now"))).to_be_visible()
        await look_at(page)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download the seals").click()
        assert (await download.value).suggested_filename == "seals.ndjson"


async def test_all_of_it_without_scripts(
    browser: Browser, url: str, auditor: User, administrator: User
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    with running(url) as live:
        await sign_in(page, live, "/trail", administrator.email)
        await page.get_by_label("Changed column").fill("is_admin")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator(".entry")).to_have_count(1)
        await page.locator("a.time").click()
        await expect(page.get_by_text("10.1.2.3").first).to_be_visible()
        await page.get_by_role("link", name="Seals").click()
        await page.get_by_role("button", name="Verify now").click()
        for _ in range(50):
            if await page.get_by_text("Verified just now").count():
                break
            await page.goto(f"{live.address}/trail/seals")
        await expect(page.get_by_text("Verified just now")).to_be_visible()
    await context.close()


async def test_a_row_of_the_back_office_leads_to_its_life(
    page: Page, url: str, auditor: User, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(page, live, "/admin/", administrator.email)
        await page.goto(f"{live.address}/admin/#/users/{member.id}")
        link = page.get_by_role("link", name="Its life in the trail")
        await expect(link).to_have_count(1)
        await picture(page, "admin")
        await link.click()
        await expect(
            page.get_by_role("heading", name="The life of mel@example.com (Bob Noyce)")
        ).to_be_visible()
        await page.goto(f"{live.address}/admin/#/users")
        await expect(page.get_by_role("heading", name="users")).to_be_visible()
        await expect(link).to_have_count(0)
