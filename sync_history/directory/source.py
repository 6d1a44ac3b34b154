"""The source `directory`: accounts follow a list of people, from a file or a web address.

Read, compared and checked first, all in one transaction that touches no account; if the file or
what it asks for is refused, nothing has changed. Then the changes are made, in batches of one
transaction each: locks are short, progress is true while it is shown, and a run that is cancelled
or killed leaves each person either done or as they were. The next run does the rest, because it
compares anew. What is made: accounts first, those who left last.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg

from audit.database import Connection, Database, Record
from home.database.connection import ObservedConnection
from home.database.engine import Engine
from home.database.errors import translated
from sync_history.directory.plan import Plan, check_limit, make_plan
from sync_history.settings import SyncSettings
from sync_history.sources import Run, SyncFailed, source

BATCH = 5_000  # changes in one transaction
SHOWN = 10  # people of each kind that a dry run names
STATEMENT_SECONDS = 300
# A process that was stopped must not keep others from the accounts.
LIMITS = """
    SELECT set_config('lock_timeout', '30s', true),
           set_config('idle_in_transaction_session_timeout', '60s', true)
"""
CREATE = """
    WITH made AS (
        INSERT INTO users (email, password_hash, display_name, organization, clerk_id,
                           is_approved, approved_at)
        SELECT email, '', display_name, organization, clerk_id, true, now()
        FROM directory_changes
        WHERE run_id = $1 AND number > $2 AND number <= $3 ORDER BY number
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    INSERT INTO directory_people (user_id) SELECT id FROM made
"""
TAKEN = """
    SELECT line FROM directory_changes AS changes
    WHERE run_id = $1 AND number > $2 AND number <= $3 AND NOT EXISTS (
        SELECT FROM users JOIN directory_people ON user_id = id WHERE email = changes.email)
    ORDER BY number
"""
UPDATE = """
    UPDATE users SET email = changes.email, display_name = changes.display_name,
                     organization = changes.organization, clerk_id = changes.clerk_id,
                     is_disabled = is_disabled AND NOT coalesce(people.disabled, false)
    FROM directory_changes AS changes
    LEFT JOIN directory_people AS people ON people.user_id = changes.user_id
    WHERE run_id = $1 AND number > $2 AND number <= $3 AND users.id = changes.user_id
"""
LOOK_AFTER = """
    INSERT INTO directory_people AS people (user_id)
    SELECT users.id FROM directory_changes AS changes JOIN users ON users.id = changes.user_id
    WHERE run_id = $1 AND number > $2 AND number <= $3
    ON CONFLICT (user_id) DO UPDATE SET left_at = NULL, disabled = false
    WHERE people.left_at IS NOT NULL
"""
LEAVE = """
    WITH leaving AS (
        SELECT user_id FROM directory_changes
        WHERE run_id = $1 AND number > $2 AND number <= $3
    ), disabled AS (
        UPDATE users SET is_disabled = true FROM leaving
        WHERE users.id = leaving.user_id AND NOT is_disabled RETURNING id
    )
    UPDATE directory_people AS people
    SET left_at = now(), disabled = people.user_id IN (SELECT id FROM disabled)
    FROM leaving WHERE people.user_id = leaving.user_id
"""
STEPS = {
    "create": (CREATE,),
    "return": (UPDATE, LOOK_AFTER),
    "update": (UPDATE, LOOK_AFTER),
    "adopt": (LOOK_AFTER,),
    "leave": (LEAVE,),
}
# What is said of each action, before and after.
WORDS = {
    "create": ("Would create", "created"),
    "return": ("Would take back", "taken back"),
    "update": ("Would change", "changed"),
    "adopt": ("Would look after", "looked after from now on, who had an account already"),
    "leave": ("Would disable", "left and disabled"),
}
# A day later the file is read even if it is the same: somebody may have changed accounts by hand.
KNOWN = """
    SELECT etag FROM directory_files
    WHERE address_digest = $1
      AND read_at BETWEEN now() - interval '1 day' AND now() + interval '1 minute'
"""
# While accounts follow another version, or only half of one, none is known.
FORGET = "DELETE FROM directory_files"
REMEMBER = """
    INSERT INTO directory_files (address_digest, etag, read_at) VALUES ($1, $2, now())
    ON CONFLICT DO NOTHING
"""


@source("directory", every=timedelta(hours=1))
async def directory(run: Run) -> None:
    """Create, update and disable accounts as DIRECTORY_URL says. See docs/directory.md.

    Raises:
        SyncFailed: the message says why; nothing was changed, or the next run does the rest.
    """
    from sync_history.directory.download import fetched  # its HTTP client takes long to load

    db = run.services.db
    settings = run.services.settings_of(SyncSettings)
    address = settings.directory_url
    if not address:
        raise SyncFailed("DIRECTORY_URL is not set: name a CSV or JSON file, by path or https://.")
    digest = hashlib.sha256(address.encode()).hexdigest()
    known = None
    if not (run.dry_run or run.force):
        known = await db.fetchval(KNOWN, digest)
    secret = settings.directory_token
    async with fetched(address, secret.get_secret_value() if secret else None, known) as file:
        if file.path is None:
            await _unchanged(db, run)
            return
        async with _own_connection(db) as connection:
            plan = await _plan(connection, run, file.path, settings.directory_max_disable)
            if run.dry_run:
                return
            complete = await _apply(connection, run, plan)
            if complete and file.etag and len(file.etag) <= 255:
                await connection.execute(REMEMBER, digest, file.etag)


@asynccontextmanager
async def _own_connection(db: Engine) -> AsyncIterator[ObservedConnection]:
    """Have a connection whose statements may take long; none of the pool's is kept from others."""
    connection = await db.get_new_connection(command_timeout=STATEMENT_SECONDS)
    connection.slow_query_ms = STATEMENT_SECONDS * 1000
    try:
        with translated():  # it may be lost in COPY, which is not translated
            yield connection
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise SyncFailed("Somebody else is changing the same accounts. Try again later.") from None
    except asyncpg.IntegrityConstraintViolationError:
        raise SyncFailed(
            "Somebody changed the same accounts meanwhile. Run it again: it does the rest."
        ) from None
    finally:
        try:
            await asyncio.shield(connection.close(timeout=1))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


async def _unchanged(db: Database, run: Run) -> None:
    people = await db.fetchval("SELECT count(*) FROM directory_people WHERE left_at IS NULL")
    run.total(people)
    run.synced(people)
    run.note("The directory is unchanged since it was read last.")


async def _plan(connection: ObservedConnection, run: Run, path: Path, max_disable: int) -> Plan:
    # Left open by an error or a dry run, it ends with its connection: nothing has happened.
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(LIMITS)
    plan = await make_plan(connection, run, path)
    if run.dry_run:
        await _note_plan(connection, run, plan)
    await check_limit(connection, run, plan, max_disable)
    if not run.dry_run:
        await connection.execute(FORGET)
        await transaction.commit()
    return plan


async def _note_plan(connection: Connection, run: Run, plan: Plan) -> None:
    """Note what would be done."""
    for action, count in plan.counts.items():
        rows = await connection.fetch(
            "SELECT email FROM directory_changes WHERE run_id = $1 AND action = $2"
            " ORDER BY number LIMIT $3",
            run.id,
            action,
            SHOWN,
        )
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        names = ", ".join(row["email"] for row in rows)
        run.note(f"{WORDS[action][0]} {count}: {names}{more}")
    if not plan.counts:
        run.note("Nothing would change.")


async def _apply(connection: Connection, run: Run, plan: Plan) -> bool:
    """Make the changes; return whether accounts now are what the whole file says."""
    changing = sum(plan.counts.values())
    # What is neither wrong nor changed nor held back is as it should be.
    run.synced(plan.lines + plan.missing - plan.failed - plan.held_back - changing)
    done: Counter[str] = Counter()
    for action, (first, last) in plan.batches.items():
        for start in range(first, last, BATCH):
            part = (start, min(start + BATCH, last))
            count, taken = await _apply_batch(connection, run, action, part)
            run.synced(count)
            done[action] += count
            for number in taken:
                run.failed(f"{plan.unit} {number}", "somebody else made this account just now")
    await connection.execute("DELETE FROM directory_changes WHERE run_id = $1", run.id)
    said = [f"{count} {WORDS[action][1]}" for action, count in done.items() if count]
    run.note("; ".join(said) + "." if said else "Nothing had to change.")
    return not plan.failed and done.total() == changing


async def _apply_batch(
    connection: Connection, run: Run, action: str, part: tuple[int, int]
) -> tuple[int, list[int]]:
    """Make some changes of one kind.

    Returns:
        How many, and the lines of accounts that somebody else made in the meantime.
    """
    taken: list[Record] = []
    async with connection.transaction():
        await connection.execute(LIMITS)
        # The first statement's count is how many were done: accounts may have vanished meanwhile.
        status, *_ = [await connection.execute(sql, run.id, *part) for sql in STEPS[action]]
        count = int(status.split()[-1])
        if action == "create" and count < part[1] - part[0]:
            taken = await connection.fetch(TAKEN, run.id, *part)
    return count, [row["line"] for row in taken]
