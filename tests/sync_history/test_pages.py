"""The pages about sources and their runs, over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history import run_lists, runs
from sync_history.pages import in_time, until
from sync_history.run_lists import Filters
from sync_history.sources import Function, Run, source
from tests.conftest import PASSWORD, enter
from tests.sync_history.conftest import SERVICES, run_of, stored
from tests.sync_history.conftest import until as until_status

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]


class Person:
    """Somebody in a browser, who presses buttons of the page that they see."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.page = ""

    async def see(self, path: str, status: int = 200, headers: dict[str, str] | None = None) -> str:
        answer = await self.client.get(path, headers=headers, follow_redirects=True)
        assert answer.status_code == status, answer.text
        self.page = answer.text
        return unescape(answer.text)

    async def press(self, action: str, **fields: str) -> httpx.Response:
        token = re.search(r'name="csrf_token" value="(\w+)"', self.page)
        data = fields | ({"csrf_token": token[1]} if token else {})
        return await self.client.post(action, data=data)


@pytest.fixture
async def ada(client: httpx.AsyncClient, administrator: User) -> Person:
    await enter(client, administrator.email)
    return Person(client)


def is_sent_to(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def test_a_run_is_started_failed_understood_and_run_again(
    ada: Person, registered: Register, db: Engine
) -> None:
    async def crm(run: Run) -> None:
        if not run.dry_run:
            raise ValueError(f"no <b>column</b> at {run.services.settings.secrets}")
        run.note("{{7*7}} would change")

    registered(crm)
    assert "none yet" in await ada.see("/sync")
    place = is_sent_to(await ada.press("/sync/crm/start"))
    run = await until_status(int(place.rpartition("/")[2]), "failed")
    page = await ada.see(place)
    assert "ValueError: no <b>column</b>" in page
    assert "no <b>column</b>" not in ada.page, "it is escaped"
    assert "Traceback (most recent call last)" in page
    assert f"/sync/runs/{run.id}/again" in page
    assert "hx-get" not in page, "what is over does not change"
    again = is_sent_to(await ada.press(f"/sync/runs/{run.id}/again"))
    assert again != place
    await until_status(int(again.rpartition("/")[2]), "failed")
    dry = is_sent_to(await ada.press("/sync/crm/start", dry_run="yes", force="yes"))
    run = await until_status(int(dry.rpartition("/")[2]), "succeeded")
    assert (run.dry_run, run.force) == (True, True)
    assert "{{7*7}} would change" in await ada.see(dry)
    same = is_sent_to(await ada.press(f"{dry}/again"))
    run = await until_status(int(same.rpartition("/")[2]), "succeeded")
    assert (run.dry_run, run.force) == (True, True)


@pytest.fixture
def mailing(registered: Register) -> list[frozenset[str] | None]:
    """A source that can redo items; returns what each of its runs was asked for."""
    asked: list[frozenset[str] | None] = []

    @source("mailing", redoes_items=True)
    async def mailing(run: Run) -> None:
        asked.append(run.only)
        for name in ("ann", "bob", "eve"):
            if run.only is None:
                run.failed(name, "no answer") if name != "ann" else run.synced()
            elif name in run.only:
                run.synced()

    return asked


async def test_only_what_failed_is_run_once_more(
    ada: Person, mailing: list[frozenset[str] | None]
) -> None:
    run = await run_of("mailing")
    assert run.status == "partial"
    place = f"/sync/runs/{run.id}"
    assert "Run only what failed" in await ada.see(place)
    redone = is_sent_to(await ada.press(f"{place}/again", only_failed="yes"))
    second = await until_status(int(redone.rpartition("/")[2]), "succeeded")
    assert (second.retry_of, second.items_synced) == (run.id, 2)
    page = await ada.see(redone)
    assert f'what failed in <a href="{place}">' in page
    assert "Run only what failed" not in page
    whole = is_sent_to(await ada.press(f"{place}/again"))
    await until_status(int(whole.rpartition("/")[2]), "partial")
    assert mailing == [None, {"bob", "eve"}, None]


async def test_what_cannot_be_named_cannot_be_redone_alone(
    ada: Person, mailing: list[frozenset[str] | None], registered: Register
) -> None:
    @source("long", redoes_items=True)
    async def long(run: Run) -> None:
        run.synced()
        run.failed("x" * 501, "is too long to be named")

    @source("many", redoes_items=True)
    async def many(run: Run) -> None:
        run.synced()
        for number in range(501):
            run.failed(str(number), "is one too many")

    async def plain(run: Run) -> None:
        run.synced()
        run.failed("a", "this source knows no items")

    registered(plain)
    of_another = await run_of("mailing")
    for name in ("long", "many", "plain"):
        run = await run_of(name)
        assert "Run only what failed" not in await ada.see(f"/sync/runs/{run.id}")
        for other in (run, of_another):
            refused = await ada.press(f"/sync/runs/{run.id}/again", only_failed="yes")
            assert "nothing can be done once more alone" in await ada.see(is_sent_to(refused))
            with pytest.raises(runs.NothingToRedo):
                await runs.start(SERVICES.db, name, retry_of=other.id)
    with pytest.raises(runs.NothingToRedo):
        await runs.start(SERVICES.db, "mailing", retry_of=2**31)


async def test_secrets_of_the_settings_are_in_no_traceback(
    ada: Person, registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaking(run: Run) -> None:
        raise ValueError("postgresql://ann:opensesame@db/x " + "y" * 1_000_000)

    registered(leaking)
    run = await run_of("leaking")
    page = await ada.see(f"/sync/runs/{run.id}")
    assert "Where it failed" in page
    assert "opensesame" not in page
    assert len(page) < 40_000


async def test_an_auditor_sees_everything_but_the_traceback_and_does_nothing(
    ada: Person, app: Any, registered: Register
) -> None:
    async def crm(run: Run) -> None:
        raise ValueError("odd")

    registered(crm)
    run = await run_of("crm")
    rights = {"is_auditor": True, "is_approved": True}
    await User.create_user("vera@example.com", PASSWORD, **rights)
    ada.client.cookies.clear()
    await enter(ada.client, "vera@example.com")
    for path in ("/sync", "/sync/crm", f"/sync/runs/{run.id}"):
        page = await ada.see(path)
        assert "failed" in page
        assert 'action="/sync/' not in page.replace('action="/sync/crm#runs"', ""), path
    assert "ValueError: odd" in page
    assert "Traceback" not in page
    for action in ("/sync/crm/start", f"/sync/runs/{run.id}/cancel", f"/sync/runs/{run.id}/again"):
        assert (await ada.press(action)).status_code == 403


async def test_others_and_who_has_no_token_are_kept_out(
    ada: Person, registered: Register, member: User
) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    assert (await ada.press("/sync/crm/start")).status_code == 403  # no page was seen: no token
    ada.client.cookies.clear()
    assert is_sent_to(await ada.client.get("/sync/crm")) == "/sign-in?next=/sync/crm"
    await enter(ada.client, member.email)
    assert (await ada.client.get("/sync")).status_code == 403
    assert (await ada.press("/sync/crm/start")).status_code == 403


async def test_a_run_is_watched_and_cancelled(ada: Person, registered: Register) -> None:
    async def slow(run: Run) -> None:
        run.total(100)
        run.synced(50)
        run.failed("line 3", "<script>alert(1)</script>" + "x" * 1_000_000)
        await asyncio.sleep(60)

    registered(slow)
    await ada.see("/sync")
    place = is_sent_to(await ada.press("/sync/slow/start"))
    id_ = int(place.rpartition("/")[2])
    async with asyncio.timeout(10):
        while (await stored(id_)).items_synced != 50:
            await asyncio.sleep(0.1)
    whole = await ada.see(place)
    assert 'hx-trigger="every 1s"' in whole
    assert f'<noscript><a class="button" href="{place}">Reload</a></noscript>' in whole
    assert "about" in whole
    part = await ada.see(place, headers={"hx-request": "true"})
    assert part.lstrip().startswith('<div id="run"')
    assert "<script>" not in ada.page
    assert len(part) < 5_000
    told = await ada.client.get(is_sent_to(await ada.press("/sync/slow/start")))
    assert "is not over yet" in told.text, "one at a time"
    assert is_sent_to(await ada.press(f"{place}/cancel")) == place
    await until_status(id_, "cancelled")
    assert "Cancelled. What it had done by then stays." in await ada.see(place)
    ada.client.cookies.delete("message")
    assert is_sent_to(await ada.press(f"{place}/cancel")) == place
    assert "is over: cancelled" in await ada.see(place)


async def test_what_is_not_there_is_a_page(ada: Person, registered: Register) -> None:
    for path in ("/sync/nothing", "/sync/runs/7", f"/sync/runs/{10**30}"):
        await ada.see(path, 404)
    await ada.see("/sync")
    assert (await ada.press("/sync/nothing/start")).status_code == 404
    assert (await ada.press("/sync/runs/7/again")).status_code == 404
    assert (await ada.press("/sync/runs/7/cancel")).status_code == 404


HISTORY = """
    INSERT INTO sync_history
        (source, status, started_at, completed_at, duration_ms, dry_run, needs_attention)
    SELECT (ARRAY['crm', 'hr'])[1 + n % 2],
           (ARRAY['succeeded', 'failed', 'partial', 'cancelled'])[1 + n / 2 % 4],
           at, at, n, n % 16 > 13, n % 8 IN (2, 3)
    FROM (SELECT n, now() - (300 - n) * interval '1 hour' AS at FROM generate_series(0, 299) n) AS x
"""


async def ids_of(ada: Person, path: str) -> list[int]:
    """Follow *Older* to the end."""
    found: list[int] = []
    while path:
        page = await ada.see(path)
        found += map(int, re.findall(r'<td><a href="/sync/runs/(\d+)"', page))
        older = re.search(r'href="([^"]+)">Older', page)
        path = older[1] if older else ""
    return found


async def test_lists_are_complete_and_in_order_however_filtered(ada: Person, db: Engine) -> None:
    await db.fetch(HISTORY)
    since = (datetime.now(UTC) - timedelta(days=5)).date()
    choices = {
        "/sync": "true",
        "/sync/hr": "source = 'hr'",
        "/sync?source=crm&status=failed": "source = 'crm' AND status = 'failed'",
        "/sync?status=failed&dry_run=no": "status = 'failed' AND NOT dry_run",
        "/sync/crm?dry_run=yes": "source = 'crm' AND dry_run",
        f"/sync?since={since}": f"completed_at >= '{since} 00:00 UTC'",
        "/sync?status=active": "false",
        "/sync?status=nothing&since=0001-01-01&dry_run=perhaps": "true",
    }
    for path, condition in choices.items():
        sql = f"SELECT id FROM sync_history WHERE {condition} ORDER BY id DESC"
        expected = [row["id"] for row in await db.fetch(sql)]
        assert await ids_of(ada, path) == expected, path
        number = f"{len(expected)} run{'' if len(expected) == 1 else 's'}"
        assert number in await ada.see(path), path


async def test_a_source_of_the_past_is_still_there_to_read(ada: Person, db: Engine) -> None:
    await db.fetch(HISTORY)
    page = await ada.see("/sync/crm")
    assert "it is not configured any more" in page
    assert 'action="/sync/crm/start"' not in page
    run = await db.fetchval("SELECT max(id) FROM sync_history")
    assert "/again" not in await ada.see(f"/sync/runs/{run}")


async def test_what_it_changed_leads_to_the_trail(
    ada: Person, registered: Register, administrator: User
) -> None:
    async def crm(run: Run) -> None: ...

    registered(crm)
    run = await run_of("crm")
    page = await ada.see(f"/sync/runs/{run.id}")
    assert re.search(r'href="/trail\?person=\S+&from=\S+&to=\S+">What it changed', page)


def test_when_a_source_is_due() -> None:
    assert until(datetime.now(UTC) + timedelta(seconds=41.4)) in ("in 41 s", "in 42 s")
    assert until(datetime.now(UTC) - timedelta(seconds=1)) == "now"


def test_durations_in_words() -> None:
    figures = {None: "—", 0.04: "0.0 s", 41.2: "41 s", 200: "3 min 20 s", 7500: "2 h 5 min"}
    assert {seconds: in_time(seconds) for seconds in figures} == figures


def test_filters_survive_the_address() -> None:
    query = {"source": "crm", "status": "failed", "dry_run": "no", "since": "2026-03-01"}
    filters = Filters.of(query)
    assert filters.query() == "source=crm&status=failed&dry_run=no&since=2026-03-01"
    assert Filters.of({"status": "x'; --", "since": "x", "dry_run": "x"}) == Filters()
    assert run_lists.PAGE == 50
