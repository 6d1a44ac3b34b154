"""Runs that failed are tried again: by one process, after a pause, as often as the source says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from structlog.testing import capture_logs

from home.database.engine import Engine
from home.tables import User
from sync_history import retries, runner, runs, scheduler
from sync_history.notices import runs_to_look_at
from sync_history.runs import NotActive
from sync_history.sources import Function, Run, Source, SyncFailed, source, sources
from sync_history.tables import SyncRun
from tests.conftest import enter
from tests.sync_history.conftest import SERVICES, run_of, stored, trail_of, until

pytestmark = pytest.mark.any_version

Register = Callable[[Function], None]


@pytest.fixture
def crm(registered: Register) -> Source:
    """A source that fails, and is tried three times."""

    @source("crm", retries=2)
    async def crm(run: Run) -> None:
        raise SyncFailed("The other side is closed. Start it again.")

    return sources()["crm"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is due to be tried again at once."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.0)


async def try_again(crm: Source) -> SyncRun:
    """Begin with the retry that is due, and wait for its end."""
    started = await runs.start_due(SERVICES.db, crm)
    assert started is not None
    async with asyncio.timeout(20):
        await runner.launch(SERVICES, started).task
    return await stored(started.id)


async def test_it_is_tried_again_as_often_as_the_source_says(crm: Source, at_once: None) -> None:
    first = await run_of("crm", force=True)
    assert (first.attempt, first.attempts, first.needs_attention) == (1, 3, False)
    assert first.error_message == "The other side is closed. It is tried again by itself."
    assert first.attention_reason is None
    second = await try_again(crm)
    third = await try_again(crm)
    assert [(each.attempt, each.attempt_of) for each in (second, third)] == [
        (2, first.id), (3, first.id)
    ]  # fmt: skip
    assert (second.trigger_type, second.triggered_by, second.force) == ("automatic", None, True)
    assert (second.needs_attention, third.needs_attention) == (False, True)
    assert third.error_message == "The other side is closed. Start it again."
    assert third.retry_at is None
    assert await runs.start_due(SERVICES.db, crm) is None
    assert (await stored(first.id)).retry_at is None
    [told] = await runs_to_look_at(SERVICES.db)
    assert told.path == f"/sync/runs/{third.id}"


async def test_the_pauses_grow_and_are_spread(
    crm: Source, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = "SELECT extract(epoch FROM retry_at - completed_at) FROM sync_history WHERE id = $1"
    insert = """
        INSERT INTO sync_history (source, status, attempt, attempts, heartbeat_at)
        VALUES ('crm', 'running', $1, 9, now() - interval '1 hour') RETURNING id
    """
    for attempt, expected in ((1, 60), (2, 240), (3, 960), (4, 3_600), (8, 3_600)):
        found = set()
        for _ in range(8):
            id_ = await db.fetchval(insert, attempt)
            await runs.reap(db)
            found.add(await db.fetchval(pauses, id_))
        assert max(found) - min(found) > expected / 100
        assert all(0.79 * expected < pause < 1.21 * expected for pause in found)
    assert await runs.start_due(db, crm) is None, "it is not due yet"


async def test_of_many_who_look_at_once_one_tries_it_again(crm: Source, at_once: None) -> None:
    await run_of("crm")
    found = await asyncio.gather(*[runs.start_due(SERVICES.db, crm) for _ in range(20)])
    [started] = [each for each in found if each is not None]
    assert (await stored(started.id)).status == "pending"
    assert await SyncRun.count() == 2


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_run_whose_process_is_gone_is_tried_again(
    crm: Source, db: Engine, at_once: None, status: str
) -> None:
    await db.execute(
        "INSERT INTO sync_history (source, status, attempts, created_at, heartbeat_at)"
        " VALUES ('crm', $1, 2, now() - interval '1 hour', now() - interval '1 hour')",
        status,
    )
    [(dead, _)] = await runs.reap(db)
    run = await stored(dead)
    assert not run.needs_attention
    assert not run.attention_reason
    assert run.error_message.endswith(" It is tried again by itself.")
    assert (await try_again(crm)).attempt_of == dead


async def test_one_that_is_stopped_with_the_application_is_tried_again(
    registered: Register,
) -> None:
    @source("slow", retries=1)
    async def slow(run: Run) -> None:
        await asyncio.sleep(60)

    started = await runs.start(SERVICES.db, "slow")
    runner.launch(SERVICES, started)
    await until(started.id, "running")
    await runner.close()
    run = await stored(started.id)
    assert run.error_message == (
        "The application was stopped. What it had done by then stays. It is tried again by itself."
    )
    assert run.retry_at


async def test_whoever_is_told_not_to_is_not_tried_again(crm: Source, at_once: None) -> None:
    failed = await run_of("crm")
    run = await runs.cancel(SERVICES.db, failed.id)
    assert (run.status, run.needs_attention) == ("failed", False)
    assert not run.retry_at
    assert await runs.start_due(SERVICES.db, crm) is None
    with pytest.raises(NotActive, match="is over: failed"):
        await runs.cancel(SERVICES.db, failed.id)
    assert len(await trail_of(failed.id)) == 4, "that nobody tries it again is on the trail"


async def test_another_run_takes_its_place(crm: Source, at_once: None) -> None:
    first = await run_of("crm")
    dry = await run_of("crm", dry_run=True)
    assert (dry.attempts, dry.needs_attention) == (1, True)
    assert not dry.retry_at
    assert (await stored(first.id)).retry_at, "a dry run does not do the work"
    started = await runs.start(SERVICES.db, "crm")
    assert (await stored(first.id)).retry_at is None
    assert (await stored(started.id)).attempt == 1
    assert await runs.start_due(SERVICES.db, crm) is None


async def test_the_next_due_time_takes_its_place(
    registered: Register, db: Engine, at_once: None
) -> None:
    async def nothing(run: Run) -> None: ...

    source("hourly", schedule="0 * * * *", retries=3)(nothing)
    await db.execute(
        "INSERT INTO sync_history (source, status, attempts, retry_at, due_at)"
        " VALUES ('hourly', 'failed', 4, now(), now() - interval '3 hours')"
    )
    started = await runs.start_due(db, sources()["hourly"])
    assert started is not None
    run = await stored(started.id)
    assert (run.due_at.minute, run.attempt, run.attempts) == (0, 1, 4)
    assert await db.fetchval("SELECT count(*) FROM sync_history WHERE retry_at IS NOT NULL") == 0


async def test_what_a_person_cancels_is_not_tried_again(registered: Register) -> None:
    @source("crm", retries=1)
    async def crm(run: Run) -> None:
        await asyncio.sleep(60)

    started = await runs.start(SERVICES.db, "crm")
    runner.launch(SERVICES, started)
    await until(started.id, "running")
    await runs.cancel(SERVICES.db, started.id)
    assert (await until(started.id, "cancelled")).retry_at is None


async def test_where_nobody_tries_it_again_a_person_is_told(crm: Source, db: Engine) -> None:
    await db.execute(
        "INSERT INTO sync_history (source, status, attempts, retry_at)"
        " VALUES ('crm', 'failed', 4, now() - interval '61 minutes'),"
        "        ('erp', 'failed', 4, now() - interval '59 minutes')"
    )
    with capture_logs() as logs:
        await scheduler.look(SERVICES, [])
    [entry] = logs
    assert entry["event"] == "sync_retry_given_up"
    run = await stored(entry["run_id"])
    assert (run.source, run.needs_attention) == ("crm", True)
    assert not run.retry_at


async def test_a_clock_that_was_set_back_does_not_put_it_off(crm: Source, db: Engine) -> None:
    await db.execute(
        "INSERT INTO sync_history (source, status, attempts, retry_at)"
        " VALUES ('crm', 'failed', 4, now() + interval '10 years')"
    )
    assert await runs.start_due(db, crm) is not None


async def test_a_run_that_is_over_gets_no_other_time(crm: Source, db: Engine) -> None:
    failed = await run_of("crm")
    for sql in ("retry_at = now()", "retry_at = NULL, attempt = 1, attempts = 9"):
        with pytest.raises(Exception, match="a run that is over does not change"):
            await db.execute(f"UPDATE sync_history SET {sql} WHERE id = $1", failed.id)


async def test_the_scheduler_tries_again_what_is_not_automatic(
    registered: Register, at_once: None
) -> None:
    seen: list[int] = []

    @source("crm", retries=1)
    async def crm(run: Run) -> None:
        seen.append(run.id)
        if len(seen) == 1:
            raise SyncFailed("Once.")

    await run_of("crm")
    await scheduler.job(SERVICES).run()
    async with asyncio.timeout(20):
        while len(seen) < 2:
            await asyncio.sleep(0.05)
    await until(seen[1], "succeeded")


async def test_people_see_it_and_can_stop_it(
    client: httpx.AsyncClient, crm: Source, administrator: User
) -> None:
    await enter(client, administrator.email)
    failed = await run_of("crm")
    page = (await client.get(f"/sync/runs/{failed.id}")).text
    assert "Do not try again" in page
    assert "unless another run begins first" in page
    page = (await client.get("/sync/crm")).text
    assert f"Run {failed.id}</a> failed and is tried again in " in page
    answer = (await client.get(f"/api/sync/runs/{failed.id}")).json()["run"]
    assert (answer["attempt"], answer["attempts"]) == (1, 3)
    assert answer["retry_at"] is not None
    answer = (await client.post(f"/api/sync/runs/{failed.id}/cancel")).json()["run"]
    assert answer["retry_at"] is None
    assert "Do not try again" not in (await client.get(f"/sync/runs/{failed.id}")).text


async def test_a_run_leads_to_its_other_attempts(
    client: httpx.AsyncClient, crm: Source, at_once: None, administrator: User
) -> None:
    first, second = await run_of("crm"), await try_again(crm)
    await enter(client, administrator.email)
    page = (await client.get(f"/sync/runs/{first.id}")).text
    assert f'as <a href="/sync/runs/{second.id}">run {second.id}</a>' in page
    page = (await client.get(f"/sync/runs/{second.id}")).text
    assert f'attempt 2 of 3 of <a href="/sync/runs/{first.id}">run {first.id}</a>' in page
