"""Automatic runs: once at each due time, however many processes look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

import piccolo_conf
from audit.jobs import Supervisor
from home.config.settings import load_settings
from home.database.engine import Engine
from home.services import Services
from sync_history import runs, scheduler
from sync_history import sources as registry
from sync_history.settings import SyncSettings
from sync_history.sources import Run, Source, source
from sync_history.tables import SyncRun
from tests.conftest import point_at
from tests.sync_history.conftest import SERVICES, stored

HOUR = timedelta(hours=1)


async def nothing(run: Run) -> None:
    """A source with nothing to do."""


HOURLY = Source("hourly", nothing, HOUR)


@asynccontextmanager
async def scheduling(starts: bool = True) -> AsyncIterator[None]:
    supervisor = Supervisor([scheduler.job(SERVICES, starts)])
    supervisor.start()
    try:
        yield
    finally:
        await supervisor.close()


async def test_of_many_who_look_at_once_one_starts_it(db: Engine) -> None:
    found = await asyncio.gather(*[runs.start_due(SERVICES.db, HOURLY) for _ in range(20)])
    [started] = [each for each in found if each is not None]
    run = await stored(started.id)
    assert (run.trigger_type, run.triggered_by, run.status) == ("automatic", None, "pending")
    assert (run.due_at.minute, run.due_at.second, run.due_at.microsecond) == (0, 0, 0)
    assert timedelta() <= run.created_at - run.due_at < HOUR
    await runs.cancel(SERVICES.db, run.id)
    assert await runs.start_due(SERVICES.db, HOURLY) is None, "its due time has had its run"


async def test_missed_runs_are_made_up_for_once(db: Engine) -> None:
    await db.fetch(
        "INSERT INTO sync_history (source, status, due_at)"
        " VALUES ('hourly', 'succeeded', date_trunc('hour', now()) - interval '9 hours')"
    )
    started = await runs.start_due(SERVICES.db, HOURLY)
    assert started is not None
    await runs.cancel(SERVICES.db, started.id)
    assert await runs.start_due(SERVICES.db, HOURLY) is None
    assert await SyncRun.count() == 2


async def test_what_runs_already_is_waited_for(db: Engine) -> None:
    run = SyncRun(source="hourly", status="running")
    await run.save()
    assert await runs.start_due(SERVICES.db, HOURLY) is None
    await db.fetch("UPDATE sync_history SET status = 'succeeded'")
    assert await runs.start_due(SERVICES.db, HOURLY) is not None


async def test_another_interval_or_clock_makes_no_second_run_of_a_due_time(db: Engine) -> None:
    await db.fetch(
        "INSERT INTO sync_history (source, status, due_at)"
        " VALUES ('hourly', 'succeeded', date_trunc('hour', now()) + interval '1 hour')"
    )
    assert await runs.start_due(SERVICES.db, HOURLY) is None
    assert await runs.start_due(SERVICES.db, Source("hourly", nothing, timedelta(days=1))) is None


async def test_due_times_of_a_clock_that_was_set_back_stop_nothing(db: Engine) -> None:
    await db.fetch(
        "INSERT INTO sync_history (source, status, due_at)"
        " VALUES ('hourly', 'succeeded', date_trunc('hour', now()) + interval '10 years')"
    )
    with capture_logs() as logs:
        started = await runs.start_due(SERVICES.db, HOURLY)
        assert started is not None
        await runs.cancel(SERVICES.db, started.id)
        assert await runs.start_due(SERVICES.db, HOURLY) is None
    [entry] = logs
    assert (entry["event"], entry["source"]) == ("due_time_in_the_future", "hourly")
    assert (await stored(started.id)).due_at <= datetime.now(UTC)


async def test_by_hand_only_means_never_by_itself(db: Engine) -> None:
    assert await runs.start_due(SERVICES.db, Source("x", nothing)) is None


async def test_the_scheduler_runs_what_is_due_and_closes_what_is_dead(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registry", {})

    @source("ticking", every=timedelta(seconds=1))
    async def ticking(run: Run) -> None:
        run.synced()

    await db.fetch(
        "INSERT INTO sync_history (source, status, heartbeat_at)"
        " VALUES ('dead', 'running', now() - interval '46 seconds')"
    )
    finished = SyncRun.count().where(
        SyncRun.source == "ticking", SyncRun.status == "succeeded", SyncRun.items_synced == 1
    )
    async with scheduling(), asyncio.timeout(20):
        while await finished < 3:
            await asyncio.sleep(0.05)
    [dead] = await SyncRun.objects().where(SyncRun.source == "dead")
    assert (dead.status, dead.needs_attention) == ("failed", True)
    times = await SyncRun.select(SyncRun.due_at).where(SyncRun.source == "ticking")
    assert len({row["due_at"] for row in times}) == len(times)


async def test_the_scheduler_outlives_the_database(
    url: str, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registry", {})
    monkeypatch.setattr(scheduler, "LOOK_SECONDS", 0.2)

    @source("ticking", every=timedelta(seconds=1))
    async def ticking(run: Run) -> None: ...

    await db.close_connection_pool()
    point_at("postgresql://nobody@127.0.0.1:1/nothing")
    with capture_logs() as logs:
        async with scheduling(), asyncio.timeout(20):
            while not any(entry["event"] == "job_failed" for entry in logs):
                await asyncio.sleep(0.05)
    async with scheduling(), asyncio.timeout(20):
        point_at(url)
        while not await SyncRun.count().where(SyncRun.status == "succeeded"):
            await asyncio.sleep(0.05)


async def test_what_it_is_about_to_start_is_begun_before_it_ends(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registry", {})
    source("ticking", every=timedelta(seconds=1))(nothing)
    looking, looked = asyncio.Event(), asyncio.Event()

    async def slowly(db: Engine, source: Source) -> None:
        looking.set()
        await asyncio.sleep(0.3)
        looked.set()

    monkeypatch.setattr(runs, "start_due", slowly)
    async with scheduling(), asyncio.timeout(20):
        await looking.wait()
    assert looked.is_set()


@pytest.mark.parametrize("sources", [("crm",), ()])
def test_the_server_looks_after_runs_where_there_are_sources(sources: tuple[str, ...]) -> None:
    settings = load_settings([SyncSettings], sync_sources=sources)
    jobs = scheduler.jobs(Services(piccolo_conf.DB, settings))
    assert bool(jobs) == bool(sources)


async def test_one_that_is_told_not_to_start_runs_closes_dead_ones_all_the_same(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "sources", lambda: {"hourly": HOURLY})
    dead = SyncRun(source="crm", status="running", heartbeat_at=datetime(2026, 1, 1, tzinfo=UTC))
    await dead.save()
    async with scheduling(starts=False), asyncio.timeout(10):
        while (await stored(dead.id)).status != "failed":
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    assert await SyncRun.count() == 1, "it started a run"
