"""Running sources in this process: a task each, watched by one that writes how it gets on."""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import asyncpg

from audit.context import acting_as, current_actor
from audit.errors import DatabaseUnavailable
from audit.log import Logger
from audit.tracing import span
from home.services import Services
from sync_history import runs
from sync_history.containment import create_task, exit_refused
from sync_history.cursors import Cursor
from sync_history.errors import SyncFailed
from sync_history.log_capture import capture
from sync_history.outcome import (
    CANCELLED,
    LOST,
    STOPPED,
    UNSTORABLE,
    Outcome,
    decide_outcome,
    stood_still,
)
from sync_history.reporting import Progress, Run
from sync_history.run_lease import LeaseLost, RunLease
from sync_history.runs import Started
from sync_history.sources import Function

BEAT_SECONDS = 1.0
# A cancelled source may tidy up so long; with the beat before, a run ends within two seconds.
TIDY_UP_SECONDS = 0.8
CLOSE_SECONDS = 2.0
# Who blocks the event loop for so long is named: all requests waited meanwhile.
BLOCKED_SECONDS = 5.0

log = Logger("groundwork.sync")


class Execution:
    """One run in this process.

    `run` is what the source reports, None until this process has claimed it; `outcome` is how it
    ended, None also where somebody else closed it. `task` is done when all is written.
    """

    def __init__(self, services: Services, started: Started) -> None:
        self.services = services
        self.source = started.source
        self.lease = RunLease(services.db, started.id)
        self.run: Run | None = None
        self.outcome: Outcome | None = None
        self._stopping = asyncio.Event()
        self._blocked_seconds = 0.0  # the longest time
        self.task = asyncio.create_task(self._execute(), name=f"sync {started.source.name}")

    def stop(self) -> None:
        """Close the run as failed: the process is about to end."""
        self._stopping.set()

    async def _execute(self) -> None:
        with acting_as(current_actor() or runs.automatic(self.source)):
            try:
                if (row := await self.lease.claim()) is None:
                    log.info("sync_run_not_claimed", run_id=self.lease.id)
                    return
                self.run = Run(
                    self.services,
                    self.lease.id,
                    self.source.name,
                    dry_run=row["dry_run"],
                    force=row["force"],
                    only=await self._only(row["retry_of"]),
                    cursor=Cursor(
                        self.services.db,
                        self.lease.id,
                        self.lease.claim_id,
                        row["state"],
                        row["version"],
                    ),
                )
                with span("sync run", source=self.source.name, run_id=self.lease.id) as note:
                    await self._see_through(self.run)
                    note(status=self.outcome.status if self.outcome else "unknown")
            except LeaseLost:
                log.error("sync_run_lost", run_id=self.lease.id, source=self.source.name)
            except DatabaseUnavailable as error:  # others close it, see runs.reap
                log.error("sync_run_given_up", run_id=self.lease.id, reason=error.reason)
            finally:
                self.lease.close()

    async def _only(self, earlier: int | None) -> frozenset[str] | None:
        if earlier is None:
            return None
        return runs.failed_items(await runs.find(earlier), self.source)

    async def _see_through(self, run: Run) -> None:
        log.info("sync_run_started", run_id=self.lease.id, source=self.source.name)
        _prolong(run, time.monotonic())
        capture()
        name = f"source {self.source.name}"
        task = create_task(_call(self.source.function, run), run, name)
        try:
            outcome = await self._watch(run, task)
        except LeaseLost:
            raise
        except Exception as error:  # a source can change what it was given as it likes
            log.error("sync_run_unstorable", run_id=self.lease.id, exc_info=error)
            outcome = UNSTORABLE
        finally:
            await _stop(run, task)
        self.outcome = await self._close(run, task, outcome)
        log.info(
            "sync_run_ended",
            run_id=self.lease.id,
            source=self.source.name,
            status=self.outcome.status,
        )

    async def _watch(self, run: Run, task: asyncio.Task[None]) -> Outcome | None:
        """Beat until the source is done (None), or has to stop, and why."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                began = time.monotonic()
                await asyncio.wait(
                    {task, stopping}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                self._note_blocking(time.monotonic() - began - BEAT_SECONDS)
                if run.cancelled:  # it may have been closed meanwhile, or is about to be
                    return self._lost()
                if task.done():
                    return None
                if stopping.done():
                    return STOPPED
                now = time.monotonic()
                try:
                    cancelled = await self.lease.beat(run.progress)
                    _prolong(run, now)
                    await self.lease.write_log(run.log)
                    if cancelled:
                        return CANCELLED
                except asyncpg.DataError:  # trying again would not help
                    raise
                except (DatabaseUnavailable, asyncpg.PostgresError) as error:
                    name = type(error).__name__
                    log.warning("sync_beat_failed", run_id=self.lease.id, error=name)
        finally:
            stopping.cancel()

    def _note_blocking(self, seconds: float) -> None:
        self._blocked_seconds = max(self._blocked_seconds, seconds)
        if seconds >= BLOCKED_SECONDS:
            log.warning("event_loop_blocked", source=self.source.name, seconds=round(seconds, 1))

    def _lost(self) -> Outcome:
        blocked = self._blocked_seconds
        return stood_still(blocked) if blocked > runs.LEASE_SECONDS / 2 else LOST

    async def _close(self, run: Run, task: asyncio.Task[None], outcome: Outcome | None) -> Outcome:
        """Write the end, as soon as the database takes it, but not for ever."""
        give_up_at = time.monotonic() + runs.LEASE_SECONDS
        error = _error_of(task, run) if outcome is None else None
        while True:
            try:
                if outcome is None:
                    outcome = self._decide(run, error, await self.lease.earlier(self.source.name))
                progress = Progress() if outcome is UNSTORABLE else run.progress
                if outcome is not UNSTORABLE:
                    await self.lease.write_log(run.log, is_last=True)
                await self.lease.end(progress, outcome)
                return outcome
            except LeaseLost:
                raise
            except Exception as unstorable:
                is_worth_a_try = isinstance(unstorable, DatabaseUnavailable | asyncpg.PostgresError)
                if is_worth_a_try and not isinstance(unstorable, asyncpg.DataError):
                    if time.monotonic() > give_up_at:
                        raise
                    await asyncio.sleep(BEAT_SECONDS)
                    continue
                if outcome is UNSTORABLE:
                    raise
                log.error("sync_run_unstorable", run_id=self.lease.id, exc_info=unstorable)
                outcome = UNSTORABLE

    def _decide(self, run: Run, error: BaseException | None, earlier: list[int]) -> Outcome:
        outcome = decide_outcome(run, error, earlier)
        if self._blocked_seconds >= BLOCKED_SECONDS and outcome.attention is None:
            seconds = f"{self._blocked_seconds:.0f} seconds"
            reason = f"All requests waited for {seconds}, because it blocked the event loop."
            outcome = replace(outcome, attention=reason)
        return outcome


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


def launch(services: Services, started: Started) -> Execution:
    """Begin with a run in the background; whoever acts now is who did it."""
    execution = Execution(services, started)
    _here.add(execution)
    execution.task.add_done_callback(lambda task: _forget(execution))
    return execution


async def begin(
    services: Services,
    name: str,
    *,
    dry_run: bool = False,
    force: bool = False,
    retry_of: int | None = None,
) -> Started:
    """Start a run of a source and begin with it, for whoever acts now; see `runs.start`."""
    started = await runs.start(services.db, name, dry_run=dry_run, force=force, retry_of=retry_of)
    launch(services, started)
    return started


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
    run.extend(now + runs.LEASE_SECONDS)


async def _call(function: Function, run: Run) -> None:
    awaited: Awaitable[object] = function(run)
    returned = await awaited
    if returned is not None:
        kind = type(returned).__name__
        if inspect.iscoroutine(returned):
            returned.close()
        raise SyncFailed(f"The source returned something ({kind}): is there an await missing?")


async def _stop(run: Run, task: asyncio.Task[None]) -> None:
    """Cancel a source that is not done. One that does not listen is left to itself."""
    if task.done():
        return
    run.stop()
    task.cancel()
    await asyncio.wait({task}, timeout=TIDY_UP_SECONDS)
    if not task.done():
        log.error("sync_source_does_not_stop", source=task.get_name())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks


def _error_of(task: asyncio.Task[None], run: Run) -> BaseException | None:
    """Return what a source failed with, also where it was a task of its own making."""
    if task.cancelled():
        return SyncFailed("The source cancelled itself.")
    error = task.exception()
    if error is None and run.tried_to_exit:
        return exit_refused()
    if error is not None and not isinstance(error, SyncFailed):
        # As text: not all that renders an exception survives its `__str__`.
        text = "".join(traceback.format_exception(error))
        log.error("sync_source_failed", source=task.get_name(), exception=text)
        run.failed_with(text)
    return error
