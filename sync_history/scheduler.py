"""Automatic runs: each process looks at each due time, PostgreSQL decides who runs what.

Every few seconds each also looks for runs whose process is gone, and for due times that it missed.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg

from audit.context import acting_as
from audit.errors import DatabaseUnavailable
from audit.jobs import Job
from audit.log import Logger
from home.services import Services
from sync_history import retries, runner, runs
from sync_history.settings import SyncSettings
from sync_history.sources import Source, sources

LOOK_SECONDS = 5.0
CLOSE_SECONDS = 1.0

log = Logger("groundwork.sync")


def jobs(services: Services) -> list[Job]:
    """Return the job that starts what is due, where there are sources."""
    settings = services.settings_of(SyncSettings)
    return [job(services, settings.sync_scheduler)] if settings.source_modules else []


def job(services: Services, starts: bool = True) -> Job:
    """Return the job that starts what is due; runs that it started go on, see runner.close.

    Args:
        starts: else it only closes runs whose process is gone.
    """

    async def run() -> float:
        looked_at = [each for each in sources().values() if starts and each.needs_scheduler]
        await look(services, looked_at)
        return seconds_until_due([each for each in looked_at if each.is_automatic])

    return Job("start sync runs", run, LOOK_SECONDS, at_once=True, longest_pause=LOOK_SECONDS)


def seconds_until_due(automatic: list[Source], now: datetime | None = None) -> float:
    """Return how long to wait for the next due time, at most LOOK_SECONDS."""
    now = datetime.now(UTC) if now is None else now
    return min([LOOK_SECONDS, *((each.next_due(now) - now).total_seconds() for each in automatic)])


async def look(services: Services, looked_at: list[Source]) -> None:
    """Close the runs of dead processes, and start what is due or to be tried again.

    Raises:
        DatabaseUnavailable, asyncpg.PostgresError: the last error, once all sources had their turn.
    """
    for id_, source in await runs.reap(services.db):
        log.warning("sync_run_was_dead", run_id=id_, source=source)
    failure: Exception | None = None
    for each in looked_at:
        try:
            await start(services, each)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            log.warning("sync_start_failed", source=each.name, error=type(error).__name__)
            failure = error
    with acting_as(runs.SYSTEM):
        for id_, source in await retries.give_up(services.db):
            log.warning("sync_retry_given_up", run_id=id_, source=source)
    if failure is not None:
        raise failure


async def start(services: Services, source: Source) -> None:
    """Run a source if it is due and nobody else does. Once its run is made, it is begun as well."""
    task = asyncio.create_task(_start(services, source), name=f"start {source.name}")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        raise


async def _start(services: Services, source: Source) -> None:
    if (started := await runs.start_due(services.db, source)) is not None:
        with acting_as(runs.automatic(source)):
            runner.launch(services, started)
