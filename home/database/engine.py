"""Piccolo's engine: statements, transactions and savepoints, each on a connection of its own.

A change that somebody makes runs in a transaction that names them; a reading may go to a replica.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from piccolo.querystring import QueryString

from audit.context import current_actor
from audit.database import Record
from home.config.settings import Settings
from home.database.connection import UNHURRIED, ObservedConnection
from home.database.errors import translated
from home.database.pooled_engine import PooledEngine
from home.database.replica import LIMITS, Replica
from home.database.statements import may_write, needs_actor
from home.database.transaction import Transaction


class Engine(PooledEngine):
    """The engine of all tables.

    Args:
        settings: pool size and time limits, in milliseconds.
        is_replica: a read node, which another engine watches and falls back from.

    Raises (any query):
        DatabaseUnavailable: no connection, or it was lost, or the statement took too long.
        PoolTimeout: no connection became free within `DB_CONNECTION_TIMEOUT_MS`.
    """

    def __init__(self, settings: Settings, *, is_replica: bool = False) -> None:
        nodes = {}
        if settings.replica and not is_replica:
            nodes["replica"] = Engine(settings.model_copy(update=LIMITS), is_replica=True)
            self.replica = Replica(self, nodes["replica"])
        super().__init__(settings, is_replica=is_replica, nodes=nodes)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[ObservedConnection]:
        """Have the connection of the current transaction, or one for this block."""
        with translated((asyncpg.InterfaceError,)):  # it may end while nothing is asked of it
            if (transaction := self._open_transaction()) is not None:
                yield transaction.connection
                return
            connection = await self.acquire()
            try:
                yield connection
            finally:
                await self.release(connection)

    def _open_transaction(self) -> Transaction | None:
        found = cast("Transaction | None", self.current_transaction.get())
        return None if found is None or found.is_over else found

    # What Piccolo calls ---------------------------------------------------------------------

    async def run_querystring(self, querystring: QueryString, in_pool: bool = True) -> Any:
        sql, args = querystring.compile_string(engine_type=self.engine_type)
        return await self._run("fetch", sql, args)

    async def run_ddl(self, ddl: str, in_pool: bool = True) -> Any:
        return await self._run("fetch", ddl)

    async def _run_in_new_connection(self, query: str, args: Sequence[Any] | None = None) -> Any:
        return await self._run("fetch", query, args or ())

    # audit.database.Database ----------------------------------------------------------------

    async def fetch(self, sql: str, /, *args: Any) -> list[Record]:
        """Return all rows."""
        return cast(list[Record], await self._run("fetch", sql, args))

    async def fetchrow(self, sql: str, /, *args: Any) -> Record | None:
        """Return the first row, or None."""
        return cast("Record | None", await self._run("fetchrow", sql, args))

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        """Return the first value of the first row, or None."""
        return await self._run("fetchval", sql, args)

    async def execute(self, sql: str, /, *args: Any) -> str:
        """Return PostgreSQL's command tag, such as `UPDATE 3`."""
        return cast(str, await self._run("execute", sql, args))

    async def _run(self, how: str, sql: str, args: Sequence[Any] = ()) -> Any:
        """Run one statement; a change that somebody makes gets a transaction that names them."""
        if self._open_transaction() is not None:
            async with self.connection() as connection:
                return await getattr(connection, how)(sql, *args)
        if needs_actor(sql) and current_actor() is not None:
            async with self.transaction() as transaction:
                return await getattr(transaction.connection, how)(sql, *args)
        if (
            self.replica is not None
            and not may_write(sql)
            and (rows := await self.replica.fetch(sql, *args)) is not None
        ):
            return _first(how, rows)
        connection = await self.acquire()
        try:
            found = await getattr(connection, how)(sql, *args)
        except BaseException:
            await self.release(connection)
            raise
        await self.release(connection, None)  # nothing is left that would have to end
        return found

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ObservedConnection]:
        """Have a connection for reading much: of the replica, if that is up to date."""
        connection = await self.replica.caught_up() if self.replica else None
        if connection is None:
            async with self.connection() as connection:
                yield connection
            return
        try:
            yield connection
        finally:
            await connection.close(timeout=1)

    @asynccontextmanager
    async def unhurried(self) -> AsyncIterator[ObservedConnection]:
        """Have a connection of its own, outside of all transactions and without time limits."""
        connection = await self.get_new_connection(UNHURRIED)
        try:
            yield connection
        finally:
            await connection.close(timeout=1)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo this block alone where it fails, inside the open transaction or one of its own."""
        if (outer := self._open_transaction()) is None:
            async with self.transaction():
                yield
            return
        has_failed = outer.has_failed
        try:
            async with outer.connection.transaction():
                yield
        except BaseException:
            outer.has_failed = has_failed  # what failed inside is undone
            raise

    def transaction(self, allow_nested: bool = True) -> Transaction:
        """Begin a transaction, or join the one that is open: all of it, or nothing."""
        if self._open_transaction() is None:
            self.current_transaction.set(None)
        return Transaction(engine=self, allow_nested=allow_nested)


def _first(how: str, rows: list[Record]) -> Any:
    """Return of all rows what `how` would have returned."""
    if how == "fetchrow":
        return rows[0] if rows else None
    if how == "fetchval":
        return rows[0][0] if rows else None
    return rows
