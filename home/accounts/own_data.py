"""Everything that is stored about one person, as one JSON document.

Rows that would be deleted with an account are about it: tables of apps are found by their foreign
keys. Columns that are masked on the trail are secrets, and stay out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from audit.database import Connection, Database
from audit.export import encode, to_ndjson
from audit.paging import pages, trail_pages, transaction
from audit.rows import SELECTED
from audit.triggers import masked_columns
from home.accounts import own_history

ACCOUNT = "SELECT (to_jsonb(users) - $2::text[])::text AS row FROM users WHERE id = $1"
# Tables whose rows belong to a person, and the column that says to whom.
OWNED = """
    SELECT conrelid::regclass::text AS name, quote_ident(attname) AS owner
    FROM pg_constraint
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE confrelid = 'users'::regclass AND contype = 'f' AND confdeltype = 'c'
      AND array_length(conkey, 1) = 1
    ORDER BY 1, 2
"""
INTERNAL = {"users": {"credentials_version"}}
# Of what somebody did it says what it was, and not what it changed of others.
DONE = tuple(column for column in SELECTED if column != "details")


async def everything(db: Database, user_id: int, email: str) -> AsyncIterator[bytes]:
    """Yield the document in pieces. A connection is held meanwhile: do not hand them to a slow
    client one by one."""
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        masks = await masked_columns(connection)
        hidden = sorted(masks.get("users", set()) | INTERNAL["users"])
        account = await connection.fetchval(ACCOUNT, user_id, hidden)
        yield f'{{"account": {account},\n"tables": {{'.encode()
        async for piece in _tables(connection, user_id, masks):
            yield piece
        yield b'},\n"about_you_on_the_trail": ['
        about = trail_pages(
            connection, SELECTED, f"{own_history.condition()} ORDER BY id", user_id, email
        )
        async for piece in _list(to_ndjson(page).splitlines() async for page in about):
            yield piece
        yield b'],\n"done_by_you": ['
        done = trail_pages(connection, DONE, "user_id = $1 ORDER BY id", user_id)
        lines = ([encode(dict(row)).encode() for row in page] async for page in done)
        async for piece in _list(lines):
            yield piece
        yield b"]}\n"


async def _tables(
    connection: Connection, user_id: int, masks: Mapping[str, set[str]]
) -> AsyncIterator[bytes]:
    for number, table in enumerate(await connection.fetch(OWNED)):
        name = table["name"]
        yield f"{',' if number else ''}\n{encode(name)}: [".encode()
        sql = f"""
            SELECT (to_jsonb(t) - $2::text[])::text AS row FROM {name} AS t
            WHERE {table["owner"]} = $1
        """  # noqa: S608  names that PostgreSQL has quoted
        found: Any = pages(connection, sql, user_id, sorted(masks.get(name, ())))
        async for piece in _list([row["row"].encode() for row in page] async for page in found):
            yield piece
        yield b"]"


async def _list(pages_: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    """Yield the items of a JSON array."""
    is_first = True
    async for page in pages_:
        yield (b"\n" if is_first else b",\n") + b",\n".join(page)
        is_first = False
