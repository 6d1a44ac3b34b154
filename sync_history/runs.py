"""The rows of runs: begun, cancelled, and closed when their process is dead.

Any number of processes may do this at once; PostgreSQL decides, by its own clock.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple

from piccolo.columns.combination import WhereRaw

from audit.context import Actor, acting_as, current_actor
from audit.database import Connection, Database
from audit.errors import GroundworkError
from audit.log import Logger
from sync_history import due_times, retries
from sync_history.retries import ACTIVE, IS_TRIED_AGAIN
from sync_history.sources import Source, sources
from sync_history.tables import Status, SyncRun, Trigger

# Without a heartbeat for so long, a run is dead: closed within the minute, with some time to look.
LEASE_SECONDS = 45.0
# The same when its advisory lock is free as well: long enough to come back on a new connection.
LOCKLESS_SECONDS = 10.0
# «SYNC» and «RUNS» in ASCII: first keys of advisory locks.
STARTING, RUNNING = 0x53594E43, 0x52554E53

START = """
    INSERT INTO sync_history
        (source, trigger_type, triggered_by, dry_run, force, retry_of, attempts)
    SELECT $1, $2, $3, $4, $5, $6, $7 RETURNING id
"""
CANCEL = """
    UPDATE sync_history SET
        status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
        error_message = CASE status WHEN 'pending' THEN 'Cancelled before it began.' END,
        cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
        cancel_requested_by = coalesce(cancel_requested_by, $2)
    WHERE id = $1 AND status IN ('pending', 'running')
    RETURNING id
"""
# A heartbeat in the future, by a clock that has been set back since, would keep a dead run open for
# as long. It counts as one of now: whoever lives writes the next one within a second.
SET_BACK = """
    UPDATE sync_history SET heartbeat_at = clock_timestamp()
    WHERE status IN ('pending', 'running')
      AND coalesce(heartbeat_at, created_at) > clock_timestamp() + make_interval(secs => $1)
    RETURNING id, source
"""
# A restart of PostgreSQL frees all locks: whoever held one gets the same time to come back.
REAP = f"""
    UPDATE sync_history SET
        status = 'failed',
        error_message = CASE status
            WHEN 'pending' THEN 'No process began with it. '
            ELSE 'Its process is gone. What it had done by then stays. ' END
            || CASE WHEN {IS_TRIED_AGAIN} THEN '{retries.BY_ITSELF}'
               ELSE '{retries.START_AGAIN}' END,
        retry_at = CASE WHEN {IS_TRIED_AGAIN} THEN {retries.retry_at("$4")} END,
        needs_attention = NOT ({IS_TRIED_AGAIN}),
        attention_reason = CASE WHEN NOT ({IS_TRIED_AGAIN}) THEN 'It did not come to an end.' END
    WHERE status IN ('pending', 'running') AND (
            coalesce(heartbeat_at, created_at) < clock_timestamp() - make_interval(secs => $1)
            OR status = 'running' AND holds_lock
               AND greatest(heartbeat_at, pg_postmaster_start_time())
                   < clock_timestamp() - make_interval(secs => $2)
               AND NOT EXISTS (
                    SELECT FROM pg_locks
                    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $3 AND objid = id
                      AND database = (
                          SELECT oid FROM pg_database WHERE datname = current_database())
               ))
    RETURNING id, source
"""  # noqa: S608  constants only


NEWEST = """
    id IN (SELECT (SELECT max(id) FROM sync_history WHERE source = name)
           FROM unnest($1::text[]) AS name)
"""
SYSTEM = Actor("system:sync")
AHEAD_SECONDS = 5.0  # a clock that is corrected by less is none that was wrong

log = Logger("groundwork.sync")


class CannotStart(GroundworkError):
    """A run cannot be started or cancelled; the message says why."""

    status, code = 409, "conflict"


class UnknownSource(CannotStart):
    """No source has this name."""


class NothingToRedo(CannotStart):
    """Of this run no single items can be done once more."""


class AlreadyActive(CannotStart):
    """The source has a run that is not over yet."""


class NotActive(CannotStart):
    """The run is over already."""


class Started(NamedTuple):
    """A pending run, which whoever started it begins with at once."""

    id: int
    source: Source


async def start(
    db: Database,
    name: str,
    *,
    dry_run: bool = False,
    force: bool = False,
    retry_of: int | None = None,
    is_retried: bool = True,
) -> Started:
    """Make a pending run, started by whoever acts now.

    Args:
        retry_of: an earlier run of the source, of which only what failed is to be redone.
        is_retried: if it fails, it is tried again as often as the source says; a dry run never is.

    Raises:
        UnknownSource: nothing is registered under this name.
        NothingToRedo: the source cannot redo items, or that run does not name all that failed.
        AlreadyActive: it has a run that is not over.
    """
    if (source := sources().get(name)) is None:
        known = ", ".join(sources()) or "none: SYNC_SOURCES names no module"
        raise UnknownSource(f"There is no source of this name. Known are: {known}.")
    if retry_of is not None and not failed_items(await find(retry_of), source):
        raise NothingToRedo(
            f"Of run {retry_of} nothing can be done once more alone. Run {name} as a whole."
        )
    await reap(db)
    actor = current_actor()
    async with db.transaction(), db.connection() as connection:
        await _take_turns(connection, name)
        if active := await connection.fetchval(ACTIVE, name):
            raise AlreadyActive(
                f"Run {active} of {name} is not over yet. Wait for it, or cancel it."
            )
        person = actor and actor.user_id
        attempts = source.retries + 1 if is_retried and not dry_run else 1
        values = (name, Trigger.MANUAL, person, dry_run, force, retry_of, attempts)
        if not dry_run:
            await connection.execute(retries.SUPERSEDE, name)
        return Started(await connection.fetchval(START, *values), source)


async def start_due(db: Database, source: Source) -> Started | None:
    """Make a pending run if the source is due, or its last run is to be tried again, and nobody
    else has done so."""
    if source.is_automatic and (due := await due_times.due_of(db, source)) is not None:
        return await _start_by_itself(db, source, partial(due_times.start, source=source, due=due))
    if source.retries and await retries.is_due(db, source.name):
        return await _start_by_itself(db, source, partial(retries.start, source=source.name))
    return None


async def cancel(db: Database, id: int) -> SyncRun:
    """Cancel a run: at once if it is pending, else its process is asked, and stops within seconds.
    One that failed and waits to be tried again stays failed, and is not tried again.

    Raises:
        NotActive: there is no such run, or it is over and not tried again.
    """
    await reap(db)
    actor = current_actor()
    is_known = 0 < id < 2**31
    if not is_known or not (
        await db.fetch(CANCEL, id, actor and actor.user_id) or await db.fetch(retries.CANCEL, id)
    ):
        found = await find(id)
        raise NotActive(f"Run {id} is over: {found.status}." if found else "There is no such run.")
    found = await find(id)
    assert found is not None
    return found


async def find(id: int) -> SyncRun | None:
    """Return a run, or None."""
    if not 0 < id < 2**31:
        return None
    return await SyncRun.objects().where(SyncRun.id == id).first()


def failed_items(run: SyncRun | None, source: Source) -> frozenset[str]:
    """Return the items that failed in a run; none where they cannot be redone alone."""
    if not source.redoes_items or run is None or run.source != source.name or not is_over(run):
        return frozenset()
    details = json.loads(run.error_details or "{}")
    failures = details.get("failures", ())
    if details.get("failures_left_out") or any("is_inexact" in each for each in failures):
        return frozenset()
    return frozenset(each["item"] for each in failures)


async def newest(names: Iterable[str]) -> dict[str, SyncRun]:
    """Return the newest run of each of these sources that has one."""
    of_each = WhereRaw(NEWEST.replace("$1", "{}"), list(names))
    return {run.source: run for run in await SyncRun.objects().where(of_each)}


async def reap(db: Database) -> list[tuple[int, str]]:
    """Close the runs whose process is gone; return their ids and sources."""
    arguments = (LEASE_SECONDS, LOCKLESS_SECONDS, RUNNING, retries.FIRST_PAUSE_SECONDS)
    with acting_as(SYSTEM):
        for row in await db.fetch(SET_BACK, AHEAD_SECONDS):
            log.warning("heartbeat_in_the_future", run_id=row["id"], source=row["source"])
        return [(row["id"], row["source"]) for row in await db.fetch(REAP, *arguments)]


def is_over(run: SyncRun) -> bool:
    """Return whether nothing of it will change any more."""
    return run.status not in (Status.PENDING, Status.RUNNING)


def automatic(source: Source) -> Actor:
    """Return who acts when nobody started it."""
    return Actor(f"sync:{source.name}")


async def _take_turns(connection: Connection, name: str) -> None:
    """Let two who start the same source at once do it one after the other."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", STARTING, name)


async def _start_by_itself(
    db: Database, source: Source, start: Callable[[Connection], Awaitable[int | None]]
) -> Started | None:
    with acting_as(automatic(source)):
        async with db.transaction(), db.connection() as connection:
            await _take_turns(connection, source.name)
            id_ = await start(connection)
    return None if id_ is None else Started(id_, source)
