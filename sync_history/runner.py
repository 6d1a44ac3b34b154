"""Running sources in this process: a task each, watched by one that writes how it gets on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import structlog

from audit.context import acting_as, current_actor
from audit.errors import DatabaseUnavailable
from home.config.redaction import Redactor
from home.database.engine import Engine
from home.services import Services
from sync_history import runs
from sync_history.outcome import CANCELLED, LOST, STOPPED, Outcome, decide_outcome
from sync_history.run_lease import LeaseLost, RunLease
from sync_history.runs import Started
from sync_history.sources import Function, Run, SyncFailed
from sync_history.tables import SyncRun

BEAT_SECONDS = 1.0
# A cancelled source may tidy up so long; with the beat before, a run ends within two seconds.
TIDY_UP_SECONDS = 0.8
CLOSE_SECONDS = 2.0

log = structlog.get_logger("groundwork.sync")


class Execution:
    """One run in this process.

    `run` is what the source tells, None until this process has claimed it; `outcome` is how it
    ended, None also where somebody else closed it. `task` is done when all is written.
    """

    def __init__(self, started: Started) -> None:
        self.source = started.source
        self.lease = RunLease(cast(Engine, SyncRun._meta.db), started.id)
        self.run: Run | None = None
        self.outcome: Outcome | None = None
        self._stopping = asyncio.Event()
        self.task = asyncio.create_task(self._execute(), name=f"sync {started.source.name}")

    def stop(self) -> None:
        """The process is about to end: close the run as failed."""
        self._stopping.set()

    async def _execute(self) -> None:
        with acting_as(current_actor() or runs.automatic(self.source)):
            try:
                if (row := await self.lease.claim()) is None:
                    log.info("sync_run_not_claimed", run_id=self.lease.id)
                    return
                mask = Redactor(self.lease.db.settings.secrets)
                self.run = Run(
                    self.lease.id,
                    self.source.name,
                    dry_run=row["dry_run"],
                    force=row["force"],
                    mask=lambda text: str(mask.clean(text)),
                )
                await self._see_through(self.run)
            except LeaseLost:
                log.error("sync_run_fenced", run_id=self.lease.id, source=self.source.name)
            except DatabaseUnavailable as error:  # others close it, see runs.reap
                log.error("sync_run_given_up", run_id=self.lease.id, reason=error.reason)
            finally:
                self.lease.close()

    async def _see_through(self, run: Run) -> None:
        log.info("sync_run_started", run_id=run.id, source=run.source)
        _prolong(run, time.monotonic())
        task = asyncio.create_task(_call(self.source.function, run), name=f"source {run.source}")
        try:
            outcome = await self._watch(run, task)
        finally:
            await _stop(run, task)
        outcome = await self._close(run, task, outcome)
        self.outcome = outcome
        log.info("sync_run_ended", run_id=run.id, source=run.source, status=outcome.status)

    async def _watch(self, run: Run, task: asyncio.Task[None]) -> Outcome | None:
        """Beat until the source is done (None), or has to stop, and why."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                await asyncio.wait(
                    {task, stopping}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if run.cancelled:  # it may have been closed meanwhile, or is about to be
                    return LOST
                if task.done():
                    return None
                if stopping.done():
                    return STOPPED
                now = time.monotonic()
                try:
                    if await self.lease.beat(run):
                        return CANCELLED
                    _prolong(run, now)
                except DatabaseUnavailable as error:
                    log.warning("sync_beat_failed", run_id=run.id, reason=error.reason)
        finally:
            stopping.cancel()

    async def _close(self, run: Run, task: asyncio.Task[None], outcome: Outcome | None) -> Outcome:
        """Write the end, as soon as the database takes it, but not for ever."""
        give_up_at = time.monotonic() + runs.LEASE_SECONDS
        error = _error_of(task) if outcome is None else None
        while True:
            try:
                if outcome is None:
                    outcome = decide_outcome(run, error, await self.lease.earlier(run))
                await self.lease.end(run, outcome)
                return outcome
            except DatabaseUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(BEAT_SECONDS)


def lifespan(services: Services) -> list[AbstractAsyncContextManager[None]]:
    """Return what stops the runs of this process when the application ends."""
    return [_closing()]


@asynccontextmanager
async def _closing() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await close()


_here: set[Execution] = set()


def launch(started: Started) -> Execution:
    """Begin with a run in the background; whoever acts now is who did it."""
    execution = Execution(started)
    _here.add(execution)
    execution.task.add_done_callback(lambda task: _forget(execution))
    return execution


async def close() -> None:
    """Stop all runs of this process, and let them write so, at the latest after two seconds."""
    if not _here:
        return
    executions = tuple(_here)
    for execution in executions:
        execution.stop()
    _, late = await asyncio.wait({each.task for each in executions}, timeout=CLOSE_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


def _forget(execution: Execution) -> None:
    _here.discard(execution)
    if not execution.task.cancelled() and (error := execution.task.exception()):
        log.error("sync_runner_failed", run_id=execution.lease.id, exc_info=error)


def _prolong(run: Run, now: float) -> None:
    """Counted from before the heartbeat was sent: this process gives up before others take over."""
    run.good_until = now + runs.LEASE_SECONDS


async def _call(function: Function, run: Run) -> None:
    try:
        await function(run)
    except SystemExit:
        raise SyncFailed("The source tried to end the whole process.") from None


async def _stop(run: Run, task: asyncio.Task[None]) -> None:
    """Cancel a source that is not done. One that does not listen is left to itself."""
    if task.done():
        return
    run.stop()
    task.cancel()
    await asyncio.wait({task}, timeout=TIDY_UP_SECONDS)
    if not task.done():
        log.error("sync_source_does_not_stop", run_id=run.id, source=run.source)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    if task.cancelled():
        return SyncFailed("The source cancelled itself.")
    error = task.exception()
    if error is not None and not isinstance(error, SyncFailed):
        log.error("sync_source_failed", source=task.get_name(), exc_info=error)
    return error
