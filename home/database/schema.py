"""Is the live schema what the code declares? One line for each difference.

What the code declares is what its migrations build: they run into a scratch schema inside a
transaction that is rolled back, and the two catalogs are compared. Nothing can go stale, and tables
of apps added later are covered without another step.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.base import BaseMigrationManager
from piccolo.apps.migrations.tables import Migration

from audit.triggers import not_covered
from home.database.engine import Engine
from home.database.migrations import pending_migrations

CATALOG = (Path(__file__).parent / "catalog.sql").read_text(encoding="utf-8")
SCRATCH = "groundwork_verify"

# (kind, table, name) -> definition
Catalog = dict[tuple[str, str, str], str]


async def differences(db: Engine) -> list[str]:
    """Compare live and declared; an empty list means they are the same.

    Tables that no migration makes are left alone: other programs may live in the database.
    """
    found: list[str] = []
    async with db.transaction() as transaction:
        connection = transaction.connection
        for migration in await pending_migrations(connection):
            found.append(f"migration {migration}: is not applied; run piccolo home migrate")
        found += await not_covered(connection)
        live_schema = await connection.fetchval("select current_schema()")
        live = await read_catalog(connection, live_schema)
        declared = await _build_declared(connection)
        await transaction.rollback()
    tables = {table for _, table, _ in declared}
    for key in sorted(declared.keys() | live.keys()):
        kind, table, name = key
        not_ours = key not in declared and (table not in tables or kind == "function")
        if not_ours or live.get(key) == declared.get(key):
            continue
        what = f"{kind} " + ".".join(filter(None, (table, name)))
        if key not in live:
            found.append(f"{what}: is missing; expected {declared[key]}")
        elif key not in declared:
            found.append(f"{what}: is not declared; found {live[key]}")
        else:
            found.append(f"{what}: is {live[key]}; expected {declared[key]}")
    return found


async def read_catalog(connection: Any, schema: str) -> Catalog:
    """All tables, columns, indexes, constraints, triggers, functions and views of a schema."""
    rows = await connection.fetch(CATALOG, schema)
    return {
        (row["kind"], row["relation"], row["name"]): row["definition"].replace(f"{schema}.", "")
        for row in rows
    }


async def _build_declared(connection: Any) -> Catalog:
    await connection.execute(f"CREATE SCHEMA {SCRATCH}")
    await connection.execute(f"SET LOCAL search_path TO {SCRATCH}")
    await Migration.create_table()
    manager = BaseMigrationManager()
    with contextlib.redirect_stdout(io.StringIO()):
        for app_name in manager.get_sorted_app_names():
            folder = manager.get_app_config(app_name).resolved_migrations_folder_path
            for id_, module in sorted(manager.get_migration_modules(folder).items()):
                migration = await module.forwards()
                if isinstance(migration, MigrationManager):
                    await migration.run()
                await Migration.insert(Migration(name=id_, app_name=app_name))
    return await read_catalog(connection, SCRATCH)
