"""`piccolo sync_history ...`: start, watch, cancel and forget runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from json import dumps, loads

from audit.cli import CommandError, WrongOption, command, past
from audit.errors import DatabaseUnavailable
from audit.jobs import Supervisor
from audit.progress import following
from home.config.exiting import EXIT_SECONDS, exit_within
from home.config.logs import set_up_logs
from home.database.engine import Engine
from home.services import Services
from sync_history import cursors, run_log, runner, runs, scheduler
from sync_history import prune as old
from sync_history.api import as_json
from sync_history.printing import figures, print_line, print_outcome, print_runs
from sync_history.settings import SyncSettings
from sync_history.sources import load, sources
from sync_history.tables import Status, SyncRun

EXIT_CODES = {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.PARTIAL: 3, Status.CANCELLED: 4}
CANCEL_SECONDS = 10
# What is left when all is written is a source that does not stop.
TIDY_UP_SECONDS = 1.0
TO_END = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)


@command
async def run(
    services: Services, source: str, dry_run: bool = False, force: bool = False, retry_of: int = 0
) -> None:
    """Run a source now and wait for its end. Exits 0 when it succeeded, 1 when it failed or could
    not start, 2 for wrong options, 3 when some items failed, 4 when it was cancelled from
    elsewhere, 130 when Ctrl-C cancelled it. Failed items are named on standard error, what it noted
    on standard output. It is not tried again by itself.

    :param source: its name, as the module that SYNC_SOURCES names has it
    :param dry_run: only say what it would do
    :param force: override the source's own safety limits
    :param retry_of: the number of an earlier run: redo only what failed in it

    """
    with _ending_in_time():
        async with _ready(services, "warning") as db:
            try:
                started = await runs.start(
                    db,
                    source,
                    dry_run=dry_run,
                    force=force,
                    retry_of=retry_of or None,
                    is_retried=False,
                )
            except runs.UnknownSource as error:
                raise WrongOption(str(error).rstrip(".")) from None
            except runs.CannotStart as error:
                raise CommandError(str(error)) from None
            await db.start_connection_pool()
            ended = await _see_to_the_end(db, runner.launch(services, started), started.id)
        sys.exit(EXIT_CODES[Status(ended.status)])


async def _see_to_the_end(db: Engine, execution: runner.Execution, number: int) -> SyncRun:
    """Wait for the end of a run; print how it ended. Ctrl-C cancels it."""
    _on_signals(execution.stop, *TO_END)
    try:
        with following(execution.source.name, lambda: figures(execution)):
            await asyncio.wait({execution.task})
    except asyncio.CancelledError:  # Ctrl-C
        with contextlib.suppress(runs.NotActive, DatabaseUnavailable):
            await runs.cancel(db, number)
        await asyncio.wait({execution.task}, timeout=CANCEL_SECONDS)
        raise
    if (ended := await runs.find(number)) is None or not runs.is_over(ended):
        raise CommandError(f"what became of run {number} could not be written")
    print_outcome(ended, execution)
    return ended


@command
async def work(services: Services) -> None:
    """Run the sources that are due, until SIGTERM or Ctrl-C, which end what is running as failed.
    For servers with SYNC_SCHEDULER=false; several at once are safe."""
    async with _ready(services) as db:
        if not any(source.needs_scheduler for source in sources().values()):
            raise CommandError(
                "no source of SYNC_SOURCES runs by itself: none has every=, schedule= or retries="
            )
        await db.start_connection_pool()
        ending = asyncio.Event()
        _on_signals(ending.set, *TO_END, signal.SIGINT)
        supervisor = Supervisor([scheduler.job(services)])
        supervisor.start()
        await ending.wait()
        exit_within(EXIT_SECONDS)
        await supervisor.close()


@command
async def list(services: Services, source: str = "", limit: int = 20, json: bool = False) -> None:
    """Print runs, the newest first.

    :param source: only of this source
    :param limit: at most so many
    :param json: one JSON object a line, with all there is

    """
    if limit < 1:
        raise WrongOption("--limit is at least 1")
    query = SyncRun.objects().order_by(SyncRun.id, ascending=False).limit(limit)
    found = await (query.where(SyncRun.source == source) if source else query)
    if json:
        for each in found:
            print(dumps(as_json(each)))
    else:
        print_runs(found)


@command
async def cancel(services: Services, run: int) -> None:
    """Cancel a run, and wait until it has ended. One that failed and waits to be tried again is not
    tried again. Exits 1 when it is over already or does not end.

    :param run: its number, as piccolo sync_history list prints it

    """
    try:
        found: SyncRun | None = await runs.cancel(services.db, run)
    except runs.NotActive as error:
        raise CommandError(str(error)) from None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_SECONDS):
            while found is not None and not runs.is_over(found):
                await asyncio.sleep(0.2)
                found = await runs.find(run)
    if found is None or not runs.is_over(found):
        raise CommandError(
            f"run {run} has not ended yet; if its process is dead, it is closed within a minute"
        )
    more = ", and is not tried again" if found.status == Status.FAILED else ""
    print(f"run {run}: {found.status}{more}")


@command
async def log(services: Services, run: int, json: bool = False) -> None:
    """Print what the source of a run logged, the oldest line first. Exits 1 when there is no such
    run.

    :param run: its number, as piccolo sync_history list prints it
    :param json: one JSON object a line: at, level, text

    """
    if await runs.find(run) is None:
        raise CommandError("there is no such run")
    after = 0
    while lines := await run_log.newer(services.db, run, after, run_log.AT_ONCE):
        for line in lines:
            print_line(line, json=json)
        after = lines[-1]["id"]


@command
async def state(services: Services, source: str, reset: bool = False, json: bool = False) -> None:
    """Print what a source keeps from run to run, as JSON. A run that is active when it is reset
    fails as soon as it keeps something.

    :param source: its name, as the module that SYNC_SOURCES names has it
    :param reset: forget it, so that the next run begins anew; the trail says who did
    :param json: one JSON object, with when it was kept, by which run, and its version

    """
    load(services.settings_of(SyncSettings).source_modules)
    found = await cursors.find(services.db, source)
    if found is None and source not in sources():
        raise WrongOption("there is no source of this name, and nothing of one is kept")
    if reset:
        await cursors.reset(services.db, source)
        found = await cursors.find(services.db, source)
    kept = loads(found["state"]) if found else {}
    if json:
        at = found and found["updated_at"].isoformat()
        names = ("version", "run_id")
        more = {name: found and found[name] for name in names} | {"updated_at": at}
        print(dumps({"source": source, "state": kept, **more}))
    else:
        print(dumps(kept))


@command
async def prune(services: Services, before: str, keep: int = 20, yes: bool = False) -> None:
    """Remove runs older than a date, but for the last ones of each source. Without --yes it only
    says what would go. The trail keeps what they were.

    :param before: runs before this date or time may go, as 2025-01-31; UTC unless it says otherwise
    :param keep: how many runs of each source stay in any case, at least 1
    :param yes: remove them, instead of saying what would go

    """
    if not 0 < keep < 2**31:
        raise WrongOption("--keep is at least 1")
    when = await past("before", before, services.db)
    going = await old.due(services.db, when, keep)
    if not going:
        print("nothing to remove")
    elif not yes:
        print(f"would remove {going} runs before {when:%Y-%m-%d %H:%M} UTC; do it with --yes")
    else:
        print(f"removed {await old.prune(services.db, when, keep)} runs")


@asynccontextmanager
async def _ready(services: Services, level: str = "") -> AsyncIterator[Engine]:
    """Load sources, log to standard error, and close at the end what still runs."""
    settings = services.settings
    load(services.settings_of(SyncSettings).source_modules)
    set_up_logs(
        production=settings.environment == "production",
        level=level or settings.log_level,
        secrets=settings.secrets,
    )
    try:
        yield services.db
    finally:
        await runner.close()
        await services.db.close_connection_pool()


@contextlib.contextmanager
def _ending_in_time() -> Iterator[None]:
    """End the process soon after the block, however it ends: a source may not stop with it."""
    try:
        yield
    except asyncio.CancelledError:
        exit_within(TIDY_UP_SECONDS, 130)
        raise
    except SystemExit as error:
        exit_within(TIDY_UP_SECONDS, error.code if isinstance(error.code, int) else 1)
        raise
    except Exception as error:
        said = str(error)
        exit_within(TIDY_UP_SECONDS, 1, last=lambda: print(said, file=sys.stderr))
        raise


def _on_signals(handler: Callable[[], object], *signals: int) -> None:
    for number in signals:
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, handler)
