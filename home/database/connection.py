"""One connection: takes turns, is timed, and knows whether it may be used again."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal

import asyncpg
import asyncpg.transaction

from audit.context import Actor, actor_sql, current_actor
from audit.errors import DatabaseUnavailable
from audit.log import Logger
from home.config.settings import Settings
from home.database.errors import DRIVER_ERRORS, reason_of, translated, unavailable
from home.database.statements import leaves_state

log = Logger("groundwork.database")

# What the server does about a client that went away without a word: with PostgreSQL's defaults its
# connections and locks stay for two hours. Poolers refuse these, see docs/reliability.md.
GUARDS = {
    "tcp_keepalives_idle": "5",  # seconds, as are the others but for the last
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# What roles and databases may have set otherwise, and our statements rely on.
PINNED = {
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
}
# A request waits for nobody while it holds a transaction: if it does, its process has stopped.
ONE_REQUEST = {"idle_in_transaction_session_timeout": "10s"}

# A migration's concurrent step takes as long as it takes, and blocks nobody meanwhile.
UNHURRIED = {"statement_timeout": "0", "lock_timeout": "0"}

# Upper bounds of the histogram of durations, in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


# Numbers of Timings: statements by bound and those that took longer, seconds, lost connections.
SECONDS, LOST = len(BOUNDS) + 1, len(BOUNDS) + 2

# Tables seldom change more than once while one statement is sent.
STALE_TRIES = 3

Run = Callable[..., Awaitable[Any]]


class Timings:
    """Times of statements: plain numbers, which cost next to nothing on the way."""

    def __init__(self) -> None:
        self.numbers: list[float] | memoryview[float] = [0.0] * (LOST + 1)

    def add(self, seconds: float) -> None:
        """Count a statement."""
        self.numbers[bisect_left(BOUNDS, seconds)] += 1
        self.numbers[SECONDS] += seconds


class Transaction(asyncpg.transaction.Transaction):
    """asyncpg's transaction, whose begin and end say DatabaseUnavailable, too."""

    async def start(self) -> None:
        with translated():
            await super().start()

    async def commit(self) -> None:
        with translated():
            await super().commit()

    async def rollback(self) -> None:
        with translated(follows=True):
            await super().rollback()

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with translated(follows=error is not None):
            await super().__aexit__(kind, error, traceback)


class ObservedConnection(asyncpg.Connection):
    """A connection of asyncpg whose statements run one at a time and are timed.

    Tasks of one `asyncio.gather` that share a transaction share its connection: they take turns
    instead of failing. Class attributes, because asyncpg owns the constructor.

    Raises:
        DatabaseUnavailable: the connection failed, as against the statement.
    """

    slow_query_ms = 1_000
    timings = Timings()
    left_state = False
    is_expired = False
    host: str | None = None  # which of several
    when_lost: Callable[[str], None] | None = None  # is told the reason
    around: Callable[..., Awaitable[Any]] | None = None  # is given what to run, and its arguments
    _told: Actor | Literal["unknown"] | None = "unknown"  # whom the transaction names
    _begun: str | None = None  # how, as long as the transaction has done nothing
    _turn: asyncio.Lock | None = None

    async def _observe(self, run: Run, sql: str, *args: Any, **options: Any) -> Any:
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            if leaves_state(sql):
                self.left_state = True
            started = time.perf_counter()
            try:
                if not self.is_in_transaction():
                    self._told = "unknown"
                elif self._told is not current_actor():
                    with translated():
                        await self._tell(current_actor())
                with translated():
                    return await self._run(run, sql, *args, **options)
            except DatabaseUnavailable as error:
                self.timings.numbers[LOST] += 1
                self.terminate()  # after a time-out nobody knows what the server still does
                if self.when_lost is not None:
                    self.when_lost(error.reason)
                raise
            finally:
                elapsed = time.perf_counter() - started
                self.timings.add(elapsed)
                if elapsed * 1000 >= self.slow_query_ms:
                    log.warning("slow_query", sql=sql, duration_ms=round(elapsed * 1000))

    async def _run(self, run: Run, sql: str, *args: Any, **options: Any) -> Any:
        """Run a statement. Where it was prepared before a table changed, prepare it anew: asyncpg
        does so outside of transactions, and here a transaction that did nothing yet begins again.
        """
        begun, self._begun = self._begun, None
        if self.around is not None:
            run = partial(self.around, run)
        for _ in range(STALE_TRIES):
            try:
                return await run(sql, *args, **options)
            except asyncpg.InvalidCachedStatementError:
                if begun is not None:
                    actor = None if self._told == "unknown" else self._told
                    await super().execute(f"ROLLBACK; {begun} {actor_sql(actor)}")
                elif self.is_in_transaction():
                    raise
        return await run(sql, *args, **options)

    def transaction(
        self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        return Transaction(self, isolation, readonly, deferrable)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._observe(super().fetch, query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._observe(super().fetchrow, query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._observe(super().fetchval, query, *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        # asyncpg's transactions begin and end here: the actor goes along with BEGIN.
        actor = current_actor()
        if query.startswith("BEGIN") and actor is not None:
            status = await self._observe(super().execute, query + actor_sql(actor), **options)
            self._told, self._begun = actor, query
            return status
        status = await self._observe(super().execute, query, *args, **options)
        if query.startswith("BEGIN"):
            self._begun = query
        if query.startswith("ROLLBACK TO"):  # which also takes back whom the transaction names
            self._told = "unknown"
        return status

    async def executemany(self, command: str, args: Any, **options: Any) -> Any:
        return await self._observe(super().executemany, command, args, **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
        return await self._copy(super().copy_records_to_table, table_name, **options)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._observe(super().copy_from_query, query, *args, **options)

    async def copy_to_table(self, table_name: str, **options: Any) -> Any:
        return await self._copy(super().copy_to_table, table_name, **options)

    async def _copy(self, run: Callable[..., Awaitable[Any]], table: str, **options: Any) -> Any:
        """Run a COPY in a transaction, which names who acts."""
        if self.is_in_transaction() or current_actor() is None:
            return await self._observe(run, table, **options)
        async with self.transaction():
            return await self._observe(run, table, **options)

    def expire(self) -> None:
        """End now, or where somebody has it, once it is given back."""
        if getattr(self, "_proxy", None) is None:  # nobody has it
            self.terminate()
        else:
            self.is_expired = True

    async def _tell(self, actor: Actor | None) -> None:
        await super().execute(actor_sql(actor))
        self._told = actor


async def close_if_state_was_left(connection: ObservedConnection) -> None:
    """End a connection that may not be used again, at its release, in place of `RESET ALL`.

    It costs no round trip, and is surer: `RESET ALL` keeps roles and temporary tables.
    """
    if connection.left_state or connection.is_expired:
        await connection.close(timeout=1)


async def connect(
    settings: Settings, arguments: Mapping[str, Any], session: Mapping[str, str]
) -> ObservedConnection:
    """Open a connection.

    Args:
        arguments: of `asyncpg.connect`.
        session: PostgreSQL's settings of the session; poolers in transaction mode have none.

    Raises:
        DatabaseUnavailable: it could not be opened within `DB_CONNECTION_TIMEOUT_MS`.
    """
    given = dict(arguments.get("server_settings", {}))
    limit = settings.db_connection_timeout_ms / 1000
    options = {"timeout": limit, "connection_class": ObservedConnection, **arguments}
    options["password"] = options.get("password") or ""  # else asyncpg looks into ~/.pgpass
    if settings.db_pooler == "transaction":
        options["statement_cache_size"] = 0
    else:
        given |= {**GUARDS, **PINNED, **session}
    options["server_settings"] = {"application_name": "groundwork", **given}
    try:
        connection: ObservedConnection = await asyncpg.connect(**options)
    except DRIVER_ERRORS as error:
        raise unavailable(reason_of(error)) from error
    if problem := _unsupported(connection.get_settings()):
        connection.terminate()
        raise unavailable(problem)
    connection.slow_query_ms = settings.db_slow_query_ms
    return connection


def _unsupported(reported: object) -> str | None:
    """Return the reason why a server's settings would give wrong results, or None.

    The server reports them with the connection: no round trip.
    """
    if getattr(reported, "server_encoding", "UTF8") != "UTF8":
        return "encoding_not_utf8"
    if getattr(reported, "standard_conforming_strings", "on") != "on":
        return "strings_not_standard"
    return None


async def create_pool(
    settings: Settings, connect: Callable[..., Awaitable[ObservedConnection]], **options: Any
) -> Any:
    """Return an empty pool, whose connections `connect` opens when they are needed."""
    make_pool: Any = asyncpg.create_pool  # its stubs know no `connect=`
    return await make_pool(
        connect=connect,
        connection_class=ObservedConnection,
        min_size=0,
        max_size=settings.db_pool_max,
        max_inactive_connection_lifetime=settings.db_idle_timeout_ms / 1000,
        command_timeout=settings.db_command_timeout_ms / 1000,
        reset=close_if_state_was_left,
        **options,
    )
