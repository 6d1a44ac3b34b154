"""Is the live schema what the code declares? One line for each difference.

What the code declares is what its migrations build: they run into a scratch schema inside a
transaction that is rolled back, and the two catalogs are compared. Nothing can go stale, and tables
of apps added later are covered without another step.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Set
from pathlib import Path

import asyncpg
from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.apps.migrations.commands.base import BaseMigrationManager
from piccolo.apps.migrations.tables import Migration

from audit.database import Connection
from audit.ddl import MigrationRefused
from audit.triggers import not_covered
from home.database.connection import ObservedConnection
from home.database.engine import Engine
from home.database.migrations import (
    LOCK,
    applied_migrations,
    apply_batch,
    create_tracking_table,
    known_migrations,
)

CATALOG = (Path(__file__).parent / "catalog.sql").read_text(encoding="utf-8")
SCRATCH = "groundwork_verify"
NOT_MIGRATED = "no migration is applied: run piccolo home migrate"
SEQUENCES = """
    SELECT pg_class.oid::regclass::text AS sequence,
           format('%s.%I', refobjid::regclass, attname) AS numbered,
           format('SELECT (SELECT max(%I) FROM %s) AS largest, last_value, is_called FROM %s',
                  attname, refobjid::regclass, pg_class.oid::regclass) AS question
    FROM pg_class
    JOIN pg_depend ON objid = pg_class.oid AND classid = 'pg_class'::regclass
                  AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
    WHERE relkind = 'S' AND refobjid IN (
        SELECT pg_class.oid
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = current_schema() AND relname = ANY($1))
"""
# By what they are now, which may differ from what was declared.
DROPS = """
    SELECT format('DROP %s IF EXISTS %s CASCADE',
                  CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                               ELSE 'TABLE' END, pg_class.oid::regclass) AS statement
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND relkind IN ('r', 'p', 'v', 'm') AND relname = ANY($1)
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', pg_proc.oid::regprocedure)
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = current_schema() AND proname = ANY($2)
"""

Key = tuple[str, str, str]  # kind, table, name
Catalog = dict[Key, str]  # -> definition


async def differences(db: Engine) -> list[str]:
    """Compare live and declared; an empty list means they are the same.

    What migrations that are still pending would change is not a difference. Tables that no
    migration makes are left alone: other programs may live in the database.
    """
    async with db.transaction() as transaction:
        connection = transaction.connection
        applied, known = await applied_migrations(connection), known_migrations()
        if not applied & known:
            return [NOT_MIGRATED]  # rather than two hundred lines
        pending = sorted(known - applied)
        found = [f"migration {id_}: is not applied; run piccolo home migrate" for id_ in pending]
        found += await not_covered(connection)
        live_schema = await connection.fetchval("select current_schema()")
        live = await read_catalog(connection, live_schema)
        try:
            declared = await _declared(connection, applied & known)
            found += compare(declared, live)
            found += await _sequences_behind(connection, {table for _, table, _ in declared})
        except (asyncpg.PostgresError, MigrationRefused):
            if not pending:
                raise  # else what is applied needs what is pending: nothing to compare with
        await transaction.rollback()
    return found


def compare(declared: Catalog, live: Catalog) -> list[str]:
    """Return a line for each difference, but for those that follow from another one."""
    ours = {table for _, table, _ in declared}
    different = {
        key
        for key in declared.keys() | live.keys()
        if live.get(key) != declared.get(key)
        and (key in declared or (key[1] in ours and key[0] != "function"))
    }
    lines = []
    for key in sorted(different):
        definition = declared.get(key) or live[key]
        if _follows(key, definition, different, gone=different - live.keys()):
            continue
        what = f"{key[0]} " + ".".join(filter(None, key[1:]))
        if key not in live:
            lines.append(f"{what}: is missing; expected {declared[key]}")
        elif key not in declared:
            lines.append(f"{what}: is not declared; found {live[key]}")
        else:
            lines.append(f"{what}: is {live[key]}; expected {declared[key]}")
    return [" ".join(line.split()) for line in lines]


def _follows(key: Key, definition: str, different: Set[Key], gone: Set[Key]) -> bool:
    """Return whether a difference is there only because of another one."""
    kind, table, name = key
    if name and ("table", table, "") in gone:
        return True
    if kind == "index" and ("constraint", table, name) in different:
        return True
    if kind in ("index", "constraint"):
        columns = [each[2] for each in different if each[:2] == ("column", table)]
        kept = definition if kind == "index" else definition.partition(" REFERENCES ")[0]
        changed = [column for column in columns if re.search(rf"\b{re.escape(column)}\b", kept)]
        return any(("column", table, column) in gone for column in changed)
    functions = [name for kind, _, name in gone if kind == "function"]
    return kind == "trigger" and any(f"{function}(" in definition for function in functions)


async def _sequences_behind(connection: Connection, tables: Set[str]) -> list[str]:
    """Return a line for each sequence that would give a number which is taken."""
    lines = []
    for row in await connection.fetch(SEQUENCES, list(tables)):
        found = await connection.fetchrow(row["question"])
        if found is None or found["largest"] is None:
            continue
        largest, sequence = found["largest"], row["sequence"]
        if largest >= found["last_value"] + found["is_called"]:
            lines.append(
                f"sequence {sequence}: its next number is taken, since {row['numbered']} goes up to"
                f" {largest}; run SELECT setval('{sequence}', {largest})"
            )
    return lines


async def rebuild(db: Engine) -> None:
    """Drop all that the migrations declare, whatever has become of it, and apply them again: all of
    it or nothing. Tables of other programs stay, without their foreign keys to ours."""
    async with db.transaction() as transaction:
        connection = transaction.connection
        await connection.execute(f"select pg_advisory_xact_lock({LOCK})")
        declared = await _declared(connection, known_migrations())
        relations = [table for kind, table, _ in declared if kind in ("table", "view")]
        functions = [name for kind, _, name in declared if kind == "function"]
        for row in await connection.fetch(DROPS, relations, functions):
            await connection.execute(row["statement"])
        await create_tracking_table()
        await apply_batch(connection)


async def read_catalog(connection: Connection, schema: str) -> Catalog:
    """Return all tables, columns, indexes, constraints, triggers, functions, views of a schema."""
    rows = await connection.fetch(CATALOG, schema)
    prefix = await connection.fetchval("select quote_ident($1)", schema) + "."
    return {
        (row["kind"], row["relation"], row["name"]): row["definition"].replace(prefix, "")
        for row in rows
    }


async def _declared(connection: ObservedConnection, migrations: Set[str]) -> Catalog:
    """Return what these migrations build; the database is as before."""
    attempt = connection.transaction()
    await attempt.start()
    try:
        return await _build(connection, migrations)
    finally:
        await attempt.rollback()


async def _build(connection: Connection, migrations: Set[str]) -> Catalog:
    await connection.execute(f"CREATE SCHEMA {SCRATCH}")
    await connection.execute(f"SET LOCAL search_path TO {SCRATCH}")
    await Migration.create_table()
    manager = BaseMigrationManager()
    with contextlib.redirect_stdout(io.StringIO()):
        for app_name in manager.get_sorted_app_names():
            folder = manager.get_app_config(app_name).resolved_migrations_folder_path
            for id_, module in sorted(manager.get_migration_modules(folder).items()):
                if id_ not in migrations:
                    continue
                migration = await module.forwards()
                if isinstance(migration, MigrationManager):
                    await migration.run()
                await Migration.insert(Migration(name=id_, app_name=app_name))
    return await read_catalog(connection, SCRATCH)
