"""The first page."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest

from home.pages.charts import bars
from home.pages.overview import last_days
from home.tables import User
from tests.conftest import enter, point_at, sign_in

pytestmark = pytest.mark.any_version


async def test_strangers_see_the_way_in_and_members_their_account(
    client: httpx.AsyncClient, member: User
) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert 'href="/sign-in"' in page.text
    assert "awaiting approval" not in page.text
    await enter(client, member.email)
    page = await client.get("/")
    assert (page.status_code, page.headers["location"]) == (303, "/account")


async def test_administrators_see_figures_that_lead_somewhere(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await User.create_user("new@example.com", "a fine password", display_name="<b>New</b>")
    await sign_in(client, "ada@example.com")
    page = (await client.get("/")).text
    found = re.findall(r'aria-label="([^"]+): ([^"]+)"', unescape(page))
    figures = dict(reversed(found))  # of labels that come again, the first
    assert figures["awaiting approval"] == "1"
    assert figures["accounts"] == "2"
    assert figures["active sessions"] == "1"
    assert figures["succeeded"] == "1"
    assert figures["users"] == "2"  # inserted; signing in changes only what is ignored
    assert "Sign-ins: succeeded 1, failed 0." in re.findall(r'alt="([^"]*)"', page)


def test_a_chart_of_nothing_is_a_picture_all_the_same() -> None:
    assert bars(last_days(), {}).startswith("data:image/svg+xml")


async def test_without_a_database_the_page_says_so(client: httpx.AsyncClient) -> None:
    point_at("postgresql://someone@127.0.0.1:1/db")
    page = await client.get("/")
    assert page.status_code == 200
    assert "database is unavailable" in page.text
