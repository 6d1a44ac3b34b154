"""Automatic runs: APScheduler says when to look, PostgreSQL decides who runs what.

Each process looks at each due time; `runs.start_due` lets one of them win. Every few seconds each
also looks for runs whose process is gone, and for due times that were missed.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import structlog

from audit.context import acting_as
from audit.errors import DatabaseUnavailable
from sync_history import runner, runs
from sync_history.sources import Source, sources

LOOK_SECONDS = 5
# Loading APScheduler takes a moment, which the first answers of the server have before it.
PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 1.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # from where `every` counts, as runs.SLOT does

log = structlog.get_logger("groundwork.sync")


async def schedule(starts: bool = True) -> None:
    """Start what is due, until cancelled. Runs that it started go on: see runner.close.

    Args:
        starts: else it only closes runs whose process is gone.
    """
    await asyncio.sleep(PAUSE_SECONDS)
    module = await asyncio.to_thread(importlib.import_module, "apscheduler.schedulers.asyncio")
    # One look makes up for several that were missed, however late it comes.
    habits = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    scheduler = module.AsyncIOScheduler(timezone=UTC, job_defaults=habits)
    automatic = [each for each in sources().values() if starts and each.every is not None]
    looking = set[asyncio.Task[None]]()

    async def job(work: Callable[..., Awaitable[None]], *args: Any) -> None:
        task = cast(asyncio.Task[None], asyncio.current_task())
        looking.add(task)
        try:
            await work(*args)
        finally:
            looking.discard(task)

    for source in automatic:
        assert source.every is not None
        every = {"seconds": source.every.total_seconds(), "start_date": EPOCH}
        scheduler.add_job(job, "interval", args=[start, source], **every)
    soon = {"seconds": LOOK_SECONDS, "next_run_time": datetime.now(UTC)}
    scheduler.add_job(job, "interval", args=[look, automatic], **soon)
    scheduler.start()
    try:
        await asyncio.Event().wait()
    finally:
        scheduler.pause()
        if looking:  # which APScheduler would break off, between making a run and beginning it
            await asyncio.wait(looking, timeout=CLOSE_SECONDS)
        scheduler.shutdown(wait=False)


async def start(source: Source) -> None:
    """Run a source if it is due and nobody else does."""
    try:
        if (started := await runs.start_due(source)) is not None:
            with acting_as(runs.automatic(source)):
                runner.launch(started)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        log.warning("sync_start_failed", source=source.name, error=type(error).__name__)


async def look(automatic: list[Source]) -> None:
    """Close the runs of dead processes, and start what is due."""
    try:
        for id_, source in await runs.reap():
            log.warning("sync_run_was_dead", run_id=id_, source=source)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        log.warning("sync_look_failed", error=type(error).__name__)
        return
    for each in automatic:
        await start(each)
