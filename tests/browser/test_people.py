"""People in bulk, as an administrator works: with the mouse, by keyboard, without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from home.tables import User
from tests.browser.steps import Steps
from tests.browser.test_account import sign_in
from tests.browser.test_pages import look_at
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

MOST_STEPS = 8
BAD = (3, 8, 11, 17, 22)  # not one beside the other


async def crowd() -> None:
    """25 who wait; five of them nobody wants."""
    for n in range(25):
        name = ("qwe rty " + "x" * 240) if n in BAD else f"Person {n}"
        await User.store(f"p{n}@example.com", "", display_name=name, organization="Navy")


async def left() -> tuple[int, int, int]:
    """How many wait, are approved, are rejected."""
    states = await User.select(User.is_approved, User.is_disabled).where(User.is_admin.eq(False))
    found = [(row["is_approved"], row["is_disabled"]) for row in states]
    return found.count((False, False)), found.count((True, False)), found.count((False, True))


def box(page: Page, n: int) -> Locator:
    return page.get_by_label(f"Select p{n}@example.com", exact=True)


@pytest.mark.parametrize("has_scripts", [True, False])
async def test_twenty_are_approved_and_five_rejected_in_eight_steps(
    browser: Browser, url: str, administrator: User, has_scripts: bool
) -> None:
    await crowd()
    context = await browser.new_context(java_script_enabled=has_scripts)
    page = await context.new_page()
    with running(url) as live:
        await sign_in(page, live, "/people", administrator.email)
        does = Steps(page)
        for n in BAD:
            await does.click(box(page, n))
        label = "Reject 5…" if has_scripts else "Reject selected…"
        await does.click(page.get_by_role("button", name=label))
        await expect(page.get_by_role("heading", name="Reject 5 people?")).to_be_visible()
        await does.click(page.get_by_role("button", name="Reject 5 people"))
        await expect(page.get_by_role("status").first).to_have_text("Rejected 5 people.")
        await does.click(page.get_by_role("button", name="Approve all 20"))
        await expect(page.get_by_role("status").first).to_have_text("Approved 20 people.")
        assert does.count <= MOST_STEPS
        assert await left() == (0, 20, 5)
    await context.close()


async def test_a_range_is_ticked_with_shift(page: Page, url: str, administrator: User) -> None:
    await crowd()
    with running(url) as live:
        await sign_in(page, live, "/people", administrator.email)
        does = Steps(page)
        await does.click(box(page, 24))
        await does.click(box(page, 5), with_shift=True)
        await does.click(page.get_by_role("button", name="Approve 20", exact=True))
        await expect(page.get_by_text("Approved 20 people.")).to_be_visible()
        everybody = page.get_by_label("Select all on this page")
        await does.click(everybody)
        await does.click(page.get_by_role("button", name="Reject 5…"))
        await expect(page.get_by_role("heading", name="Reject 5 people?")).to_be_visible()
        await does.press("Enter")  # the button has the focus
        await expect(page.get_by_text("Rejected 5 people.")).to_be_visible()
        assert does.count == 6
        assert await left() == (0, 20, 5)


async def test_by_keyboard_alone(page: Page, url: str, administrator: User) -> None:
    await crowd()
    with running(url) as live:
        await sign_in(page, live, "/people", administrator.email)
        await page.get_by_role("searchbox").focus()
        await page.keyboard.type("qwe")
        await expect(page.locator("#found")).to_have_text("5 found")
        await expect(page).to_have_url(re.compile("q=qwe"))
        await expect(page.locator("tbody tr")).to_have_count(5)
        for _ in range(9):  # past the search, and what is not there yet, to the first tick
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.id") == "all":
                break
        await page.keyboard.press("Space")
        await expect(page.get_by_text("5 selected")).to_be_visible()
        await page.keyboard.press("Shift+Tab")
        assert await page.evaluate("document.activeElement.value") == "reject"
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Reject 5 people?")).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Rejected 5 people.")).to_be_visible()
        assert await left() == (20, 0, 5)


async def test_how_it_looks(page: Page, url: str, administrator: User, member: User) -> None:
    await crowd()
    await User.create_user("olga@example.com", PASSWORD, is_admin=True, is_approved=True)
    with running(url) as live:
        await sign_in(page, live, "/people", administrator.email)
        await look_at(page)
        for path in ("/people?group=active", "/people?q=nobody", f"/people/{member.id}"):
            await page.goto(live.address + path)
            await look_at(page)
        await page.goto(f"{live.address}/people?group=active")
        await page.get_by_label("Select all on this page").click()
        await page.get_by_role("button", name="Disable 3…").click()
        await expect(page.get_by_role("heading", name="Disable 2 people?")).to_be_visible()
        await expect(page.get_by_text("The last active superuser stays")).to_be_visible()
        await look_at(page)


async def test_a_person_is_disabled_and_their_session_ended(
    page: Page, url: str, administrator: User, member: User
) -> None:
    from home.tables import Session

    await Session.create_session(member.id)
    with running(url) as live:
        await sign_in(page, live, "/people?group=active", administrator.email)
        await page.get_by_role("link", name=member.email).click()
        await page.get_by_role("button", name=re.compile("^End Unknown device")).click()
        await expect(page.get_by_role("status")).to_have_text("The session has ended.")
        await page.get_by_role("button", name="Disable…").click()
        await page.get_by_role("button", name=f"Disable {member.email}").click()
        await expect(page.get_by_role("status")).to_have_text(f"Disabled {member.email}.")
        await expect(page.get_by_text("Disabled on")).to_contain_text("by ada@example.com")
        await page.get_by_text("Give a new password…").click()
        await page.get_by_role("button", name="Give a new password, and show it once").click()
        await expect(page.get_by_text("shown only now")).to_be_visible()
        await look_at(page)
