"""What the audit trail needs of a database: implemented by the engine that the tables use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from asyncpg import Record as Record

Isolation: TypeAlias = Literal["read_committed", "repeatable_read", "serializable"]


class Queries(Protocol):
    """Anything that runs a statement. Parameters are `$1`, `$2` ...

    Raises (any of them):
        audit.errors.DatabaseUnavailable: the connection failed, as against the statement.
        asyncpg.PostgresError: the database refused the statement.
    """

    async def fetch(self, sql: str, /, *args: Any) -> list[Record]:
        """Return all rows."""

    async def fetchrow(self, sql: str, /, *args: Any) -> Record | None:
        """Return the first row, or None."""

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        """Return the first value of the first row, or None."""

    async def execute(self, sql: str, /, *args: Any) -> str:
        """Return PostgreSQL's command tag, such as `UPDATE 3`."""


class Connection(Queries, Protocol):
    """One connection, for as long as somebody has it."""

    def transaction(
        self, *, isolation: Isolation | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[Any]:
        """Begin a transaction, or a savepoint inside of one."""

    def is_in_transaction(self) -> bool:
        """Return whether one is open."""

    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        """Insert many rows at once, by COPY."""

    async def copy_from_query(
        self,
        query: str,
        *,
        output: Path,
        format: Literal["csv"],
        force_quote: bool,
        encoding: str,
        timeout: float,
    ) -> str:
        """Write the rows of a query into a file, by COPY."""


class Database(Queries, Protocol):
    """The engine: a statement runs in the open transaction of the task, else by itself."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Begin a transaction, or join the one that is open: all of it, or nothing."""

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Have the connection of the open transaction, or one of the pool for this block."""

    def reading(self) -> AbstractAsyncContextManager[Connection]:
        """Have a connection for reading much, of a replica that is up to date if there is one."""

    def unhurried(self) -> AbstractAsyncContextManager[Connection]:
        """Have a connection of its own, outside of all transactions and without time limits."""
