"""Piccolo's transaction, made to always give its connection back."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal

from piccolo.engine.postgres import PostgresTransaction

from audit.errors import DatabaseUnavailable, GroundworkError


class TransactionAborted(GroundworkError):
    """A part of this transaction failed, so that nothing of it can be stored.

    Somebody caught the error of an inner `transaction()` and went on. Where that is meant, use
    `Engine.savepoint()` for the inner part.
    """


class Transaction(PostgresTransaction):
    """A transaction that always gives its connection back; a nested one joins the outer one."""

    engine: Any  # home.database.engine.Engine, which imports this module
    _parent: Transaction | None  # the outermost one
    has_failed = False

    async def __aenter__(self) -> Transaction:
        if self._parent is not None:
            return self._parent
        self.connection = await self.engine.acquire()
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
        if self._parent is not None:
            self._parent.has_failed |= exception is not None
            return False
        try:
            if self._committed or self._rolled_back:
                pass  # by hand
            elif exception is None and not self.has_failed:
                await self.transaction.commit()
            else:
                await self.transaction.rollback()
        except DatabaseUnavailable:
            if exception is None:
                raise
            # The connection is gone, and with it the transaction; the first error goes on.
        finally:
            self.engine.current_transaction.reset(self.context)
            await self._give_back()
        if exception is None and self.has_failed and not self._rolled_back:
            raise TransactionAborted
        return False

    async def rollback(self) -> None:
        """Undo it by hand; leaving the block then does nothing."""
        await self.transaction.rollback()
        self._rolled_back = True

    @property
    def is_over(self) -> bool:
        """Return True once left: a task that outlives it goes back to the pool."""
        return getattr(self, "connection", None) is None

    async def _give_back(self) -> None:
        connection, self.connection = self.connection, None
        await self.engine.release(connection)
