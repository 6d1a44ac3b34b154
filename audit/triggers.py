"""Which tables are on the trail: steps for the migrations of the apps that own them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from audit.database import Connection, Database, Record

Step = Callable[[], Awaitable[None]]

NAMES = ("audit_insert", "audit_row", "audit_truncate")
LONGEST_NAME = 90  # characters; `audit_logs.action` holds it and what was done to it
# What is known of tables, one row each; $1 is NULL or the table that is asked for.
TABLES = """
    SELECT c.oid::regclass::text AS name,
           CASE WHEN n.nspname = current_schema() THEN c.relname
                ELSE n.nspname || '.' || c.relname END AS resource,
           c.relkind <> 'r' AS is_no_plain_table,
           EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AS has_children,
           EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS is_child,
           ARRAY(SELECT attname::text FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
           ARRAY(SELECT attname::text
                 FROM pg_index, unnest(indkey::int2[]) WITH ORDINALITY AS place (attnum, n)
                 JOIN pg_attribute USING (attnum)
                 WHERE indrelid = c.oid AND indisprimary AND attrelid = c.oid
                 ORDER BY place.n) AS key,
           attached.triggers, attached.arguments
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT array_agg(tgname::text ORDER BY tgname) FILTER (WHERE tgenabled IN ('O', 'A'))
                   AS triggers,
               (array_agg(tgargs))[1] AS arguments
        FROM pg_trigger
        JOIN pg_proc AS p ON p.oid = tgfoid
        WHERE tgrelid = c.oid AND NOT tgisinternal
          AND proname IN ('audit_inserted_v1', 'audit_row_v1', 'audit_truncate_v1')
    ) AS attached ON true
    WHERE CASE WHEN $1::text IS NULL THEN attached.arguments IS NOT NULL
               ELSE c.oid = $1::regclass END
    ORDER BY 1
"""
TRIGGERS = """
    CREATE TRIGGER audit_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS inserted
        FOR EACH STATEMENT EXECUTE FUNCTION audit_inserted_v1({columns});
    CREATE TRIGGER audit_row AFTER UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION audit_row_v1({columns});
    CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_v1({columns});
"""


class CannotAttach(ValueError):
    """The table cannot be on the trail; the message says why."""


def attach(
    table: str, *, mask: Sequence[str] = (), ignore: Sequence[str] = (), schema: str | None = None
) -> Step:
    """Return a step for `add_raw_after_tables`: from now on each change of a row is recorded.

    Args:
        table: its name; it needs a primary key.
        mask: columns of which the trail says that they changed, not what they hold.
        ignore: columns that are left out; changing only them leaves no record.
        schema: where it is, if not where the trail is; the trail then calls it «schema.table».

    Raises:
        CannotAttach: when the step runs on a table of which not all would be recorded.
    """

    async def run() -> None:
        async with _migrated().connection() as connection:
            quoted = _quoted(table, schema)
            [found] = await connection.fetch(TABLES, quoted)
            if problem := _problem(found):
                raise CannotAttach(f"{table} {problem}")
            if unknown := {*mask, *ignore} - {*found["columns"]}:
                raise CannotAttach(f"{table} has no column {', '.join(sorted(unknown))}")
            columns = await connection.fetchval(
                "SELECT concat_ws(', ', quote_literal($1::text[]::text),"
                " quote_literal($2::text[]::text), quote_literal($3::text[]::text))",
                found["key"],
                list(mask),
                list(ignore),
            )
            await connection.execute(TRIGGERS.format(table=quoted, columns=columns))

    return run


def detach(table: str, *, schema: str | None = None) -> Step:
    """Return a step for `add_raw_backwards`: the trail keeps what it has, and records no more."""

    async def run() -> None:
        async with _migrated().connection() as connection:
            for name in NAMES:
                await connection.execute(f"DROP TRIGGER {name} ON {_quoted(table, schema)}")

    return run


async def masked_columns(connection: Connection) -> dict[str, set[str]]:
    """Return the masked columns of each table on the trail, by the table's name in SQL."""
    found = {}
    for row in await connection.fetch(TABLES, None):
        mask = row["arguments"].decode().split("\0")[1]
        found[row["name"]] = set(await connection.fetchval("SELECT $1::text::text[]", mask))
    return found


async def not_covered(connection: Connection) -> list[str]:
    """Return a line for each attached table whose changes are not all recorded any more."""
    found = []
    for row in await connection.fetch(TABLES, None):
        problem = _problem(row)
        if problem is None:
            problem = await _loss(connection, row)
        if problem is not None:
            found.append(f"table {row['name']}: is on the audit trail, but it {problem}")
    return found


def _problem(row: Record) -> str | None:
    """Return why not all changes of a table would be recorded."""
    if row["is_no_plain_table"]:
        return "is partitioned, or no table: changes of its partitions would go unrecorded"
    if row["has_children"]:
        return "has tables that inherit from it: their rows would go unrecorded"
    if row["is_child"]:
        return "is a partition of another table, or inherits from one: attach it nowhere"
    if not row["key"]:
        return "has no primary key: its rows could not be distinguished"
    if len(row["resource"]) > LONGEST_NAME:
        return f"has a name of more than {LONGEST_NAME} characters"
    return None


async def _loss(connection: Connection, row: Record) -> str | None:
    """Return what was taken away from a table since it was attached."""
    missing = [name for name in NAMES if name not in (row["triggers"] or ())]
    if missing:
        return f"lacks a trigger, or it is disabled: {', '.join(missing)}"
    arrays = row["arguments"].decode().split("\0")[:3]
    key, mask, ignore = [
        await connection.fetchval("SELECT $1::text::text[]", each) for each in arrays
    ]
    if key != row["key"]:
        return "has another primary key now: attach it anew"
    if unknown := {*mask, *ignore} - {*row["columns"]}:
        return f"has no column {', '.join(sorted(unknown))} any more: attach it anew"
    return None


def _migrated() -> Database:
    from audit.ddl import database  # Piccolo's migrations load black, and servers ask us, too

    return database()


def _quoted(table: str, schema: str | None = None) -> str:
    names = (name.replace('"', '""') for name in (schema, table) if name is not None)
    return ".".join(f'"{name}"' for name in names)
