"""All pending migrations: one lock, one winner, and nobody waits long behind it.

An empty database is built in one transaction. Later each migration has one of its own, which lets
go of its tables before the next: with several at once, and people who write to them in another
order, each would wait for the other.

Piccolo's migration commands load a code formatter: they are imported where they are used, so that
the server, which only asks what is pending, starts without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg

from audit.database import Connection
from audit.errors import GroundworkError

if TYPE_CHECKING:
    from audit.ddl import AppMigration
    from home.database.connection import ObservedConnection
    from home.database.engine import Engine

# Any number will do, as long as all processes use the same: «GROUND» in ASCII.
LOCK = 0x47524F554E44
LOOK_SECONDS = 0.1
# Of the role. Sent as a simple query, it also lets go of the snapshot that a prepared statement
# keeps until the next one.
NO_LIMITS = """
    SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0
"""
# For a table that others use: who comes after us waits behind us, so we wait briefly, and again.
TRIES = 10
LONGEST_PAUSE = 5.0  # seconds
WITHOUT_LIMIT_MS = 10_000
IN_USE = (
    f"a table that a migration changes was in use each of {TRIES} times; nothing of it was "
    "changed: try again once long transactions have ended; a migration had better change one table"
)
# Somebody else holds what we need; after a rollback it can be tried again.
BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

Tell = Callable[[str], None]


class MigrationFailed(GroundworkError):
    """A migration could not be applied; nothing was changed."""


class StepFailed(MigrationFailed):
    """A migration fails by itself; the message names it. What came before it stays."""


@dataclass
class Batch:
    """Migrations that ran in one transaction, and what comes next: one with concurrent steps."""

    applied: list[str] = field(default_factory=list)
    next: AppMigration | None = None


def nobody(_: str) -> None:
    """Tell nobody."""


async def migrate(
    db: Engine, *, check: Callable[[], Awaitable[None]] | None = None, tell: Tell = nobody
) -> list[str]:
    """Apply what is pending. Others that do the same at once wait, and find nothing left to do.

    Args:
        check: is awaited before each transaction, and raises to keep it from running.
        tell: is told of each migration and concurrent step, before it runs.

    Returns:
        The ids that this call applied.

    Raises:
        MigrationFailed: Piccolo refused, or a table was in use: the transaction was rolled back.
    """
    await create_tracking_table()
    applied: list[str] = []
    while True:
        if check is not None:
            await check()
        batch = await patiently(lambda: _apply_in_transaction(db, tell))
        applied += batch.applied
        if batch.next is not None:
            applied += await _apply_concurrent(db, batch.next, tell)
        elif not batch.applied:
            return sorted(applied)


async def patiently(run: Callable[[], Awaitable[Any]]) -> Any:
    """Run what gives up early where somebody else holds a lock, again and again.

    Raises:
        MigrationFailed: the lock was not to be had.
    """
    for number in range(TRIES):
        if number:
            pause = min(0.1 * 2**number, LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
        try:
            return await run()
        except BUSY:
            continue
    raise MigrationFailed(IN_USE)


async def _apply_in_transaction(db: Engine, tell: Tell) -> Batch:
    async with alone(db) as connection:
        limit = db.settings.migrate_max_lock_ms or WITHOUT_LIMIT_MS
        await connection.execute(f"SET LOCAL lock_timeout = {limit}")
        is_empty = not await applied_migrations(connection)
        return await apply_batch(connection, tell, most=None if is_empty else 1)


@contextlib.asynccontextmanager
async def alone(db: Engine) -> AsyncIterator[ObservedConnection]:
    """Have a transaction in which nobody else migrates, without the time limits of the role."""
    async with db.transaction() as transaction:
        await _take_lock(transaction.connection)
        yield transaction.connection


async def _take_lock(connection: Connection) -> None:
    """Wait for the lock by asking again and again: a statement that waits would hold a snapshot,
    for whose end an index that is built concurrently waits, while we would wait for its builder.
    """
    while True:
        found = await connection.fetchval(f"select pg_try_advisory_xact_lock({LOCK})")
        await connection.execute(NO_LIMITS)
        if found:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def apply_batch(
    connection: Connection, tell: Tell = nobody, *, most: int | None = None
) -> Batch:
    """Run what is pending in the open transaction, up to a migration with concurrent steps.

    Args:
        most: how many; None is all, also those with concurrent steps if nobody uses their tables.
    """
    from audit.ddl import AppMigration

    batch = Batch()
    for app_name, id_, module in (await _pending_modules(connection))[:most]:
        manager = await module.forwards()
        if isinstance(manager, AppMigration) and manager.concurrent and most is not None:
            batch.next = manager
            break
        tell(id_)
        await _run(manager)
        await _record(app_name, id_)
        batch.applied.append(id_)
    return batch


async def _run(manager: Any) -> None:
    from piccolo.apps.migrations.auto.migration_manager import MigrationManager

    if isinstance(manager, MigrationManager) and not manager.fake:  # else it has run already
        with contextlib.redirect_stdout(io.StringIO()):
            await manager.run()


async def _apply_concurrent(db: Engine, migration: AppMigration, tell: Tell) -> list[str]:
    """Run a migration's concurrent steps while a transaction beside them keeps others away."""
    holder = await db.get_new_connection()
    try:
        async with holder.transaction():
            await _take_lock(holder)
            id_ = migration.migration_id
            if id_ in await applied_migrations(holder):
                return []
            await holder.execute(NO_LIMITS)  # and no snapshot
            await migration.run_concurrent(lambda step: tell(f"{id_}: {step.sql}"))
            await _record(migration.app_name, id_)
            return [id_]
    finally:
        await holder.close(timeout=1)


async def _record(app_name: str, id_: str) -> None:
    from piccolo.apps.migrations.tables import Migration

    await Migration.insert(Migration(name=id_, app_name=app_name))


async def create_tracking_table() -> None:
    """Make Piccolo's table, before the lock: every `piccolo` command does so, without one."""
    from piccolo.apps.migrations.tables import Migration

    with contextlib.suppress(
        asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError
    ):
        await Migration.create_table(if_not_exists=True)


async def _pending_modules(connection: Connection) -> list[tuple[str, str, Any]]:
    """Return app, id and module of what is pending, in the order of the apps."""
    from piccolo.apps.migrations.commands.base import BaseMigrationManager

    manager = BaseMigrationManager()
    applied = await applied_migrations(connection)
    found = []
    for app_name in manager.get_sorted_app_names():
        folder = manager.get_app_config(app_name).resolved_migrations_folder_path
        modules = manager.get_migration_modules(folder)
        found += [(app_name, id_, modules[id_]) for id_ in sorted(modules.keys() - applied)]
    return found


async def pending_in_order(connection: Connection) -> list[str]:
    """Return the ids of what is pending, in the order in which they run."""
    return [id_ for _, id_, _ in await _pending_modules(connection)]


async def applied_migrations(connection: Connection) -> set[str]:
    """Return the ids of all migrations that the database has."""
    if await connection.fetchval("select to_regclass('migration')") is None:
        return set()
    return {row["name"] for row in await connection.fetch("select name from migration")}


async def pending_migrations(connection: Connection) -> list[str]:
    """Return the ids of the migrations that the code has and the database has not."""
    return sorted(known_migrations() - await applied_migrations(connection))


@lru_cache(maxsize=1)
def known_migrations() -> frozenset[str]:
    """Return the ids of all migrations of all registered apps."""
    from piccolo.apps.migrations.commands.base import BaseMigrationManager
    from piccolo.conf.apps import Finder

    manager = BaseMigrationManager()
    configs = Finder().get_app_registry().app_configs.values()
    folders = [config.resolved_migrations_folder_path for config in configs]
    return frozenset(id_ for folder in folders for id_ in manager.get_migration_modules(folder))
