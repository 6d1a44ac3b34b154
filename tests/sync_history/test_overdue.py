"""Which sources are overdue, and how often that is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from home.database.engine import Engine
from home.tables import User
from sync_history import sources as registry
from sync_history.notices import overdue_sources
from sync_history.overdue import overdue_of
from sync_history.panel import sync_panel
from sync_history.sources import Run, Source, source
from tests.conftest import enter

pytestmark = pytest.mark.any_version

RUN = """
    INSERT INTO sync_history (source, status, trigger_type, due_at, created_at, completed_at,
                              dry_run, retry_of)
    VALUES ('crm', $1, CASE WHEN $3 THEN 'automatic' ELSE 'manual' END,
            CASE WHEN $3 THEN now() - make_interval(mins => $2) END,
            now() - make_interval(mins => $2), now() - make_interval(mins => $2), $4, $5)
"""
LIMIT = 2 * 60 + 10  # minutes


async def nothing(run: Run) -> None:
    """A source with nothing to do."""


@pytest.fixture(autouse=True)
def hourly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})
    source("crm", every=timedelta(hours=1))(nothing)
    source("by-hand")(nothing)


async def ran(
    db: Engine, minutes_ago: int, status: str = "succeeded", *,
    by_hand: bool = False, dry_run: bool = False, retry_of: int | None = None,
) -> None:  # fmt: skip
    await db.execute(RUN, status, minutes_ago, not by_hand, dry_run, retry_of)


async def is_overdue(db: Engine) -> bool:
    found = await overdue_of(db, registry.sources().values())
    assert {each.name for each in found} <= {"crm"}
    return bool(found)


@pytest.mark.parametrize("status", ["succeeded", "partial"])
async def test_a_source_is_overdue_after_twice_its_time_and_ten_minutes(
    db: Engine, status: str
) -> None:
    await ran(db, LIMIT + 1, status)
    assert await is_overdue(db)
    await ran(db, LIMIT - 1, status)
    assert not await is_overdue(db)


async def test_who_never_ran_by_itself_is_not_waited_for(db: Engine) -> None:
    assert not await is_overdue(db)
    await ran(db, 9_000, by_hand=True)
    await ran(db, 8_000, "failed", by_hand=True)
    assert not await is_overdue(db)


async def test_who_never_succeeded_counts_from_the_first_time_it_was_due(db: Engine) -> None:
    await ran(db, LIMIT - 1, "failed")
    assert not await is_overdue(db)
    await ran(db, LIMIT + 1, "failed")
    await ran(db, 5, "failed")
    assert await is_overdue(db)


async def test_dry_runs_and_runs_of_items_are_not_the_work(db: Engine) -> None:
    await ran(db, LIMIT + 1)
    await ran(db, 5, dry_run=True)
    await ran(db, 5, by_hand=True, retry_of=1)
    await ran(db, 4, "cancelled")
    assert await is_overdue(db)
    await ran(db, 3, by_hand=True)
    assert not await is_overdue(db)


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_run_that_may_be_in_time_is_waited_for(db: Engine, status: str) -> None:
    await ran(db, 9_000)
    await ran(db, 20, status)
    assert not await is_overdue(db)
    await db.execute(
        "UPDATE sync_history SET created_at = now() - interval '3 hours' WHERE status = $1", status
    )
    assert await is_overdue(db)


async def matters(db: Engine) -> list[str]:
    return [notice.matter for notice in await overdue_sources(db)]


async def test_it_is_one_matter_until_it_is_good_by_itself_again(db: Engine) -> None:
    await ran(db, 9_000)
    [first] = await matters(db)
    await ran(db, 7_000, by_hand=True)
    await ran(db, 6_000, "failed")
    assert await matters(db) == [first]
    [notice] = await overdue_sources(db)
    assert (notice.title, notice.path) == ("Sync crm is overdue", "/sync/crm")
    await ran(db, 5_000)
    [second] = await matters(db)
    assert second != first


async def test_it_is_shown_where_administrators_look(
    client: httpx.AsyncClient, db: Engine, administrator: User
) -> None:
    await enter(client, administrator.email)
    for path in ("/sync", "/sync/crm", "/"):
        assert "overdue" not in (await client.get(path)).text
    await ran(db, LIMIT + 1)
    for path in ("/sync", "/sync/crm", "/"):
        assert "overdue" in (await client.get(path)).text
    [need] = (await sync_panel(db)).needs
    assert (need.sentence, need.href) == ("Sync crm is overdue.", "/sync/crm")


async def test_sources_by_hand_are_never_overdue(db: Engine) -> None:
    assert await overdue_of(db, [Source("by-hand", nothing)]) == []


async def test_a_schedule_is_overdue_ten_minutes_after_its_second_miss(db: Engine) -> None:
    source("nightly", schedule="0 3 * * mon-fri", zone="Europe/Berlin")(nothing)
    nightly = registry.sources()["nightly"]
    last = nightly.last_due(datetime.now(UTC) - timedelta(minutes=10))
    limit = nightly.last_due(last - timedelta(seconds=1))
    assert last - limit >= timedelta(hours=23)
    for ended, is_late in ((limit - timedelta(minutes=1), True), (limit, False)):
        await db.execute(
            "INSERT INTO sync_history (source, status, due_at, completed_at)"
            " VALUES ('nightly', 'succeeded', $1::timestamptz, $1::timestamptz + interval '20 s')",
            ended,
        )
        assert bool(await overdue_of(db, [nightly])) == is_late


async def test_a_retry_that_is_good_ends_the_matter(db: Engine) -> None:
    await ran(db, 9_000)
    [first] = await matters(db)
    await db.execute(
        "INSERT INTO sync_history (source, status, attempt, created_at, completed_at)"
        " VALUES ('crm', 'succeeded', 2, now() - interval '9 hours', now() - interval '9 hours')"
    )
    [second] = await matters(db)
    assert second != first
