"""Which tables are on the trail: steps for the migrations of the apps that own them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from piccolo.apps.migrations.tables import Migration

Step = Callable[[], Awaitable[None]]

NAMES = ("audit_insert", "audit_row", "audit_truncate")
PRIMARY_KEY = """
    SELECT array_agg(attname::text ORDER BY array_position(indkey::int2[], attnum))
    FROM pg_index
    JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indrelid = $1::regclass AND indisprimary
"""
COLUMNS = """
    SELECT array_agg(attname::text) FROM pg_attribute
    WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
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


def attach(table: str, *, mask: Sequence[str] = (), ignore: Sequence[str] = ()) -> Step:
    """A step for `add_raw_after_tables`: from now on every change of the table's rows is recorded.

    Args:
        table: its name; it needs a primary key.
        mask: columns of which the trail says that they changed, not what they hold.
        ignore: columns that are left out; changing only them leaves no record.

    Raises:
        CannotAttach: when the step runs on a table without a primary key or these columns.
    """

    async def run() -> None:
        engine = cast(Any, Migration._meta.db)
        async with engine.transaction() as transaction:
            connection, quoted = transaction.connection, _quoted(table)
            key = await connection.fetchval(PRIMARY_KEY, quoted)
            if not key:
                raise CannotAttach(f"{table} has no primary key: its rows could not be told apart")
            unknown = {*mask, *ignore} - set(await connection.fetchval(COLUMNS, quoted))
            if unknown:
                raise CannotAttach(f"{table} has no column {', '.join(sorted(unknown))}")
            columns = await connection.fetchval(
                "SELECT concat_ws(', ', quote_literal($1::text[]::text),"
                " quote_literal($2::text[]::text), quote_literal($3::text[]::text))",
                key,
                list(mask),
                list(ignore),
            )
            await connection.execute(TRIGGERS.format(table=quoted, columns=columns))

    return run


def detach(table: str) -> Step:
    """A step for `add_raw_backwards`: the trail keeps what it has, and records no more."""

    async def run() -> None:
        engine = cast(Any, Migration._meta.db)
        async with engine.transaction() as transaction:
            for name in NAMES:
                await transaction.connection.execute(f"DROP TRIGGER {name} ON {_quoted(table)}")

    return run


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
