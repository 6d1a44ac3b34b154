"""Reading much in little memory: pages that are bounded by rows and by bytes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from audit.database import Connection, Database, Isolation, Queries, Record

PAGE = 500  # rows; hashing them takes the event loop about two milliseconds
INLINE_BYTES = 16_384  # of one row: a page takes up to 8 MB, what is larger comes by itself

# The trail, and for each row its `details` as text. OFFSET 0 keeps PostgreSQL from writing them out
# more than once; another step of that kind for FITS would take as long as all the rest.
TRAIL = "audit_logs, LATERAL (SELECT audit_logs.details::text AS written OFFSET 0) AS text"
FITS = f"""
    coalesce(octet_length(written), 0) + coalesce(octet_length(actor), 0) <= {INLINE_BYTES}
""".strip()
# What is left out of the pages where a row is too large; an action is never null.
CUT = {
    "actor": f"CASE WHEN {FITS} THEN actor END AS actor",
    "action": f"CASE WHEN {FITS} THEN action END AS action",
    "details": f"CASE WHEN {FITS} THEN written END AS details",
}
_numbers = itertools.count()


@asynccontextmanager
async def transaction(
    db: Database, isolation: Isolation, *, readonly: bool = False
) -> AsyncIterator[Connection]:
    """Begin a transaction whose isolation does not depend on the database's default."""
    async with (
        db.connection() as connection,
        connection.transaction(isolation=isolation, readonly=readonly),
    ):
        yield connection


async def pages(
    connection: Connection, sql: str, *args: object, size: int = PAGE
) -> AsyncIterator[list[Record]]:
    """Yield the rows of a query, some at a time. Needs an open transaction."""
    name = f"pages_{next(_numbers)}"  # asyncpg's own cursors are prepared statements: no pooler
    await connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", *args)
    while page := await connection.fetch(f"FETCH {size} FROM {name}"):
        yield page


async def trail_pages(
    connection: Connection, columns: Sequence[str], condition: str, *args: object
) -> AsyncIterator[list[Record]]:
    """Yield rows of the trail; a large one is a page of its own. Needs an open transaction.

    Args:
        columns: of `audit_logs`, `id` and `action` among them.
        condition: in SQL, and what stands behind it, such as ORDER BY.
        args: its parameters.
    """
    async for page in pages(connection, select(columns, condition), *args):
        async for part in whole(connection, columns, page):
            yield part


def select(columns: Sequence[str], condition: str) -> str:
    """Return a query of the trail whose large rows are cut, see `whole`."""
    cut = ", ".join(CUT.get(column, column) for column in columns)
    return f"SELECT {cut} FROM {TRAIL} WHERE {condition}"  # noqa: S608  constants only


async def whole(
    queries: Queries, columns: Sequence[str], page: Sequence[Record]
) -> AsyncIterator[list[Record]]:
    """Yield the rows that `select` found, in their order, large ones whole and by themselves."""
    sql = f"SELECT {', '.join(columns)} FROM audit_logs WHERE id = $1"  # noqa: S608  constants only
    for is_large, rows in itertools.groupby(page, key=lambda row: row["action"] is None):
        if not is_large:
            yield list(rows)
            continue
        for row in rows:
            if found := await queries.fetch(sql, row["id"]):
                yield found
