"""Sync runs on the overview page."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history.panel import sync_panel
from tests.conftest import sign_in

pytestmark = pytest.mark.any_version

HISTORY = """
    INSERT INTO sync_history (source, status, completed_at, duration_ms, needs_attention)
    SELECT source, status, now() - make_interval(days => days), milliseconds, attention
    FROM (VALUES
        ('crm', 'failed', 20, NULL, true),
        ('crm', 'failed', 3, 900, true),
        ('crm', 'succeeded', 2, 1000, false),
        ('crm', 'partial', 1, 3000, false),
        ('hr', 'succeeded', 1, 2500, true),
        ('hr', 'cancelled', 0, 10, false)
    ) AS history (source, status, days, milliseconds, attention)
"""


async def figures(db: Engine) -> dict[str, str]:
    return {figure.label: figure.value for figure in (await sync_panel(db)).figures}


async def test_outcomes_durations_and_what_to_look_at(db: Engine) -> None:
    await db.fetch(HISTORY)
    await db.fetch("INSERT INTO sync_history (source, status) VALUES ('crm', 'running')")
    panel = await sync_panel(db)
    assert panel.alt == "Sync runs: succeeded 2, partial 1, failed 1, cancelled 1."
    assert await figures(db) == {
        "runs to look at": "1",  # crm has had a good run since it failed
        "active runs": "1",
        "succeeded": "2",
        "partial": "1",
        "failed": "1",
        "cancelled": "1",
        "crm took": "3.0 s (usually 2.0)",
        "hr took": "2.5 s (usually 2.5)",
    }
    [look, *_] = panel.figures
    assert (look.href, look.needs_attention) == ("/sync?status=to-look-at#runs", True)
    [need] = panel.needs
    assert (need.sentence, need.href) == ("1 sync run needs a look.", look.href)


async def test_a_good_run_settles_what_came_before(db: Engine) -> None:
    await db.fetch(HISTORY)
    good = "INSERT INTO sync_history (source, status, dry_run) VALUES ('hr', 'succeeded', $1)"
    await db.fetch(good, True)
    assert (await figures(db))["runs to look at"] == "1"
    await db.fetch(good, False)
    assert (await figures(db))["runs to look at"] == "0"
    assert not (await sync_panel(db)).needs


async def test_it_is_on_the_first_page(
    client: httpx.AsyncClient, db: Engine, administrator: User
) -> None:
    await db.fetch(HISTORY)
    await sign_in(client, "ada@example.com")
    page = unescape((await client.get("/")).text)
    assert "Sync runs, last 14 days" in page
    assert dict(re.findall(r'aria-label="([^"]+): ([^"]+)"', page))["runs to look at"] == "1"
