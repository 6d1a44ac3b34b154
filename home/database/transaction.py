"""Piccolo's transaction, made to always give its connection back."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal

import asyncpg
from piccolo.engine.postgres import PostgresTransaction

from home.database.errors import DatabaseUnavailable, reason_of


class Transaction(PostgresTransaction):
    """A transaction that always gives its connection back; a nested one is a savepoint."""

    engine: Any  # home.database.engine.Engine, which imports this module

    async def __aenter__(self) -> Transaction:
        if self._parent is None:
            self.connection = await self.engine.acquire()
        else:
            self.connection = self._parent.connection
        try:
            self.transaction = self.connection.transaction()
            await self.transaction.start()
        except BaseException:
            await self._give_back()
            raise
        self.context = self.engine.current_transaction.set(self)
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        try:
            if self._committed or self._rolled_back:
                pass  # by hand
            elif exception is None:
                await self.transaction.commit()
            else:
                await self.transaction.rollback()
        except (asyncpg.InterfaceError, DatabaseUnavailable) as error:
            if exception is None:
                raise DatabaseUnavailable(reason_of(error)) from error
            # The connection is gone, and with it the transaction; the first error goes on.
        finally:
            self.engine.current_transaction.reset(self.context)
            await self._give_back()
        return False

    async def rollback(self) -> None:
        """Undo it by hand; leaving the block then does nothing."""
        await self.transaction.rollback()
        self._rolled_back = True

    @property
    def is_over(self) -> bool:
        """True once left: a task that outlives it goes back to the pool."""
        return getattr(self, "connection", None) is None

    async def _give_back(self) -> None:
        connection, self.connection = self.connection, None
        if self._parent is None:
            await self.engine.release(connection)
