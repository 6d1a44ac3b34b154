"""All pending migrations at once: one lock, one transaction, one winner.

Piccolo's migration commands load a code formatter: they are imported where they are used, so that
the server, which only asks what is pending, starts without them.
"""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache

import asyncpg

from audit.database import Connection, Database
from audit.errors import GroundworkError

# Any number will do, as long as all processes use the same: «GROUND» in ASCII.
LOCK = 0x47524F554E44
# For a table that others use: who comes after us waits behind us, and the application stands still.
PATIENCE = "10s"
IN_USE = (
    f"a table that a migration changes was in use for more than {PATIENCE}; nothing was changed: "
    "try again once long transactions have ended"
)


class MigrationFailed(GroundworkError):
    """A migration could not be applied; nothing was changed."""


async def migrate(db: Database) -> list[str]:
    """Apply what is pending. Others that do the same at once wait, and find nothing left to do.

    Returns:
        The ids that this call applied.

    Raises:
        MigrationFailed: Piccolo refused; all of it was rolled back.
    """
    from piccolo.apps.migrations.commands.forwards import run_forwards

    await _create_tracking_table()
    async with db.transaction() as transaction:
        await transaction.connection.execute(f"select pg_advisory_xact_lock({LOCK})")
        await transaction.connection.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
        await transaction.connection.execute("SET LOCAL statement_timeout = 0")  # of the role
        before = await applied_migrations(transaction.connection)
        chatter = io.StringIO()
        with contextlib.redirect_stdout(chatter):
            try:
                result = await run_forwards("all")
            except asyncpg.LockNotAvailableError:
                raise MigrationFailed(IN_USE) from None
        if not result.success:
            raise MigrationFailed(result.message or chatter.getvalue())
        after = await applied_migrations(transaction.connection)
    return sorted(after - before)


async def _create_tracking_table() -> None:
    """Make Piccolo's table, before the lock: every `piccolo` command does so, without one."""
    from piccolo.apps.migrations.tables import Migration

    with contextlib.suppress(
        asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError
    ):
        await Migration.create_table(if_not_exists=True)


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
