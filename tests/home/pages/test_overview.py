"""The first page."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest

from audit.jobs import Job, JobStatus
from audit.summary import DailyCounts
from home.database.engine import Engine
from home.monitoring import clocks
from home.pages.charts import Chart, ticks
from home.pages.overview import changes, jobs, sign_ins
from home.pages.panels import last_days
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
    found = re.findall(r'<a [^>]*aria-label="([^"]+): ([^"]+)"', unescape(page))
    figures = dict(reversed(found))  # of labels that come again, the first
    assert figures["awaiting approval"] == "1"
    assert figures["accounts"] == "2"
    assert figures["active sessions"] == "1"
    assert figures["succeeded"] == "1"
    assert figures["users"] == "2"  # inserted; signing in changes only what is ignored
    assert "Sign-ins: succeeded 1, failed 0." in re.findall(r'aria-label="([^"]*)"', page)


# Of two weeks and before, so that a list without its day would be too long.
LIFE = """
    INSERT INTO users (email, password_hash, is_approved, is_disabled)
    SELECT 'p' || n || '@example.com', '', n % 3 > 0, n % 7 = 0 FROM generate_series(1, 40) n;
    INSERT INTO sessions (sid, user_id, sess, expire)
    SELECT 's' || id, id, '{}', now() + (id % 3 - 1) * interval '1 hour' FROM users;
    INSERT INTO audit_logs (actor, action, resource, created_at)
    SELECT 'x', action, split_part(action, '.', 1), now() - n * interval '9 hours'
    FROM generate_series(1, 100) n, LATERAL (SELECT (ARRAY['sign_in.succeeded', 'sign_in.failed',
        'users.update', 'users.export', 'audit.verify'])[1 + n % 5] AS action) AS one;
    INSERT INTO sync_history (source, status, started_at, completed_at, needs_attention)
    SELECT 'source' || n % 2, (ARRAY['succeeded', 'failed', 'partial'])[1 + n % 3],
           now() - n * interval '5 hours', now() - n * interval '5 hours', n % 3 = 1
    FROM generate_series(80, 0, -1) n;
    INSERT INTO sync_history (source, status) VALUES ('source2', 'running'), ('source3', 'pending')
"""


# How a list shows a row, and how it leads to older ones.
ROWS = {
    "/sync": r'<td><a href="/sync/runs/\d+"',
    "/people": r'<td>\s*<a href="/people/\d+"',
    "/trail": r'<li class="entry trail',
}
OLDER = re.compile(r'href="([^"]+)"[^>]*>(?:Older|Go on)')


async def rows_behind(client: httpx.AsyncClient, href: str) -> int | None:
    """Follow a link and count the rows of its list; None where it leads to no list."""
    place, _, query = href.removeprefix("/admin/#/").partition("?")
    if href.startswith("/admin/#/"):
        answer = await client.get(f"/admin/api/tables/{place}/count/?{query}")
        count: int = answer.json()["count"]
        return count
    if place not in ROWS:
        return None
    count, path = 0, href
    while path:
        page = (await client.get(path.partition("#")[0])).text
        count += len(re.findall(ROWS[place], page))
        older = OLDER.search(page)
        path = unescape(older[1]) if older else ""
    return count


async def test_each_figure_leads_to_as_many_rows_as_it_says(
    client: httpx.AsyncClient, administrator: User, db: Engine
) -> None:
    for statement in LIFE.split(";"):
        await db.execute(statement)
    await sign_in(client, "ada@example.com")
    page = (await client.get("/")).text
    figures = re.findall(r'<a href="([^"]+)" aria-label="([^"]+): ([\d,]+)">', page)
    assert {label for _, label, _ in figures} >= {
        "awaiting approval", "disabled", "accounts", "active sessions", "succeeded", "failed",
        "users", "sync_history", "runs to look at", "active runs", "partial", "cancelled",
    }  # fmt: skip
    for href, label, value in figures:
        found = await rows_behind(client, unescape(href))
        assert found == int(value.replace(",", "")), (label, value, href)


async def test_what_needs_somebody_comes_first_in_the_order_of_urgency(
    client: httpx.AsyncClient, administrator: User, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sign_in(client, "ada@example.com")
    page = (await client.get("/")).text
    assert "Nothing needs you." in page
    await User.create_user("new@example.com", "a fine password")
    await db.execute(
        "INSERT INTO audit_logs (action, details) VALUES ('audit.verify', '{\"intact\": false}')"
    )
    await db.execute("INSERT INTO audit_logs (id, action) VALUES (9999, 'forged')")
    await db.execute(
        "INSERT INTO sync_history (source, status, needs_attention) VALUES ('crm', 'failed', true)"
    )
    monkeypatch.setattr(clocks.seen, "ahead_seconds", 120.0)
    page = unescape((await client.get("/")).text)
    assert "Nothing needs you." not in page
    [listed] = re.findall(r'<ul aria-label="What needs you">(.*?)</ul>', page, re.DOTALL)
    sentences = re.findall(r"<li[^>]*>(?:<a href=\"([^\"]+)\">)?([^<]+)", listed)
    assert [text for _, text in sentences] == [
        "The audit trail is not what it was sealed as.",
        "Row 9999 has an id that was never drawn: it was inserted by hand, and neither it nor later"
        " ones of that kind are sealed.",
        "The application's clock is 0:02:00 ahead of the database's.",
        "1 person waits for approval.",
        "1 sync run needs a look.",
    ]
    assert [await rows_behind(client, href) for href, _ in sentences if "?" in href] == [1, 1]
    assert listed in page[: page.index('<div class="panels">')]


def test_a_job_that_stands_still_is_told() -> None:
    async def nothing() -> None: ...

    status = JobStatus(Job("seal the trail", nothing, 60))
    assert jobs([status]).needs == []
    status.failed(ValueError())
    assert jobs([status]).needs == [], "the next attempt may settle it"
    status.failed(ValueError())
    [need] = jobs([status]).needs
    assert need.sentence.endswith("failed 2 times in a row (ValueError): see the log.")
    status.succeeded()
    status._succeeded -= 10_000
    [need] = jobs([status]).needs
    assert "stands still. It last succeeded: just now." in need.sentence


def test_a_meaning_has_one_colour_and_a_table_keeps_its_own() -> None:
    days = last_days()
    today = {days[-1]: 3}
    counts = DailyCounts(days, {"sign_in.failed": today, "b.update": today})
    tables = ["a", "b", "c"]
    colours = {figure.label: figure.colour for figure in sign_ins(counts).figures}
    assert colours == {"succeeded": "good", "failed": "bad"}
    [b] = changes(counts, tables).figures
    more = DailyCounts(days, counts.by_action | {"a.insert": today, "c.insert": today})
    found = {figure.label: figure.colour for figure in changes(more, tables).figures}
    assert found == {"a": "1", "b": b.colour, "c": "3"}


async def test_failed_is_the_same_red_in_each_chart(
    client: httpx.AsyncClient, administrator: User, db: Engine
) -> None:
    for statement in LIFE.split(";"):
        await db.execute(statement)
    await sign_in(client, "ada@example.com")
    page = (await client.get("/")).text
    swatches = re.findall(r'swatch is-(\w+)"></span>(\w+)', page)
    assert {colour for colour, name in swatches if name == "failed"} == {"bad"}
    bars = re.findall(r'<rect class="is-(\w+)"[^>]*><title>[^<]* (\w+)</title>', page)
    assert {colour for colour, name in bars if name == "failed"} == {"bad"}
    assert sum(name == "failed" for _, name in bars) > 14, "in more than one chart"


def test_ticks_are_round() -> None:
    assert [ticks(n) for n in (0, 3, 9, 1001)] == [
        [0, 1], [0, 1, 2, 3], [0, 5, 10], [0, 500, 1000, 1500],
    ]  # fmt: skip
    for highest in range(1, 5_000, 7):
        found = ticks(highest)
        assert found[-1] >= highest > found[-2]
        assert len(found) < 7


def test_a_chart_of_nothing_is_a_picture_all_the_same() -> None:
    assert Chart(last_days(), []).bars() == []
    assert len(Chart(last_days(), []).dates()) > 3


async def test_without_a_database_the_page_says_so(client: httpx.AsyncClient) -> None:
    point_at("postgresql://someone@127.0.0.1:1/db")
    page = await client.get("/")
    assert page.status_code == 200
    assert "database is unavailable" in page.text
