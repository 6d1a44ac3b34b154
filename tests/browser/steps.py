"""What a task costs a person: each click, choice, key and typed field is a step."""

from __future__ import annotations

from playwright.async_api import Locator, Page


class Steps:
    """Counts while it acts. Signing in and downloading are not counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    async def click(self, what: Locator, *, with_shift: bool = False) -> None:
        self.count += 1
        await what.click(modifiers=["Shift"] if with_shift else None)

    async def link(self, name: str) -> None:
        await self.click(self.page.get_by_role("link", name=name, exact=True))

    async def button(self, name: str) -> None:
        await self.click(self.page.get_by_role("button", name=name, exact=True))

    async def fill(self, label: str, text: str) -> None:
        self.count += 1
        await self.page.get_by_label(label, exact=True).fill(text)

    async def choose(self, label: str, option: str) -> None:
        self.count += 1
        await self.page.get_by_label(label).select_option(option)

    async def press(self, key: str) -> None:
        self.count += 1
        await self.page.keyboard.press(key)
