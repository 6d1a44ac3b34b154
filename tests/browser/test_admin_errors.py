"""What is refused, as piccolo-admin's own pages show it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from home.tables import User
from tests.browser.test_admin import sign_in
from tests.conftest import PASSWORD
from tests.live import running

pytestmark = pytest.mark.any_version

NEW = "a much better password"


@pytest.fixture
async def refused(browser: Browser) -> AsyncIterator[Page]:
    """A window in which answers of 4xx are expected; the test fails on an error of a script."""
    context = await browser.new_context(locale="en-GB")
    page = await context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    await context.close()
    assert problems == []


@pytest.mark.parametrize(
    ("current", "new", "sentence"),
    [
        (PASSWORD, "twelve chars", "Choose an administrator's password of 15 to 128 characters."),
        (PASSWORD, "short", "Password must be at least"),
        ("wrong wrong wrong", NEW, "Incorrect password."),
    ],
)
async def test_a_refused_password_is_told(
    refused: Page, url: str, administrator: User, current: str, new: str, sentence: str
) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, "ada@example.com")
        await refused.goto(f"{live.address}/admin/#/change-password/")
        for field, text in zip(
            await refused.locator("input").all(), (current, new, new), strict=True
        ):
            await field.fill(text)
        await refused.get_by_role("button", name="Change").click()
        await expect(refused.get_by_text("Error - ")).to_contain_text(sentence)
        assert "undefined" not in await refused.inner_text("body")
        said = live.end()
    assert "Traceback" not in said
    assert await User.login("ada@example.com", PASSWORD) == administrator.id


async def test_a_change_that_a_hook_refuses_is_told(
    refused: Page, url: str, administrator: User, member: User
) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, "ada@example.com")
        await refused.goto(f"{live.address}/admin/#/users/{member.id}")
        await expect(refused.locator("input[name=email]")).to_have_value(member.email)
        await refused.locator("[name=is_disabled]").select_option("true")
        await refused.get_by_role("button", name="Save").click()
        await expect(refused.get_by_text("Use the forms to approve")).to_be_visible()
        said = live.end()
    assert "Traceback" not in said


async def test_a_form_that_is_refused_is_told(refused: Page, url: str, administrator: User) -> None:
    with running(url) as live:
        await sign_in(refused, live.address, "ada@example.com")
        await refused.goto(f"{live.address}/admin/#/forms/approve-a-person")
        await refused.locator("[name=email]").fill("nobody@example.com")
        await refused.get_by_role("button", name="Submit").click()
        sentence = "There is no account with this e-mail address."
        await expect(refused.get_by_text(sentence)).to_be_visible()
        said = live.end()
    assert "Traceback" not in said
