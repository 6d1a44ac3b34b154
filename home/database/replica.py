"""The replica: how near it is, and reads that may be stale.

Who has just written reads what they wrote, whichever process answers: the answer to a change sets
a cookie with the primary's WAL position (`home.web.read_your_writes`), and only a replica that has
replayed that position serves whoever brings it. What is known of the replica is at most a second
old, and replaying never goes back: what we believe it has, it has.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from audit.database import Record
from audit.errors import DatabaseUnavailable
from audit.log import Logger
from home.database.errors import reason_of

if TYPE_CHECKING:
    from home.database.connection import ObservedConnection
    from home.database.engine import Engine

log = Logger("groundwork.database")

# Twice this, and a little, until reads go on against the primary: less than a second.
WATCH_SECONDS = 0.4
MAX_LAG_SECONDS = 10.0
# Who gets no connection to the replica in time asks the primary.
LIMITS = {"db_connection_timeout_ms": 800}
# Positions as numbers of bytes: PostgreSQL writes them as two hexadecimal numbers.
# What is inserted but not flushed is sent to nobody: on a quiet server that may take minutes.
SENT = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"
WRITTEN = """
    SELECT ((CASE current_setting('synchronous_commit') WHEN 'off' THEN pg_current_wal_insert_lsn()
             ELSE pg_current_wal_flush_lsn() END) - '0/0')::bigint
"""
REPLAYED = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint WHERE pg_is_in_recovery()"


# None: reads go to the primary. Else they may go to a replica that has replayed this position.
required_lsn: ContextVar[int | None] = ContextVar("required_lsn", default=None)


@dataclass(frozen=True)
class ReplicaState:
    """The state that health reports: whether reads may go there, and how far behind it is."""

    usable: bool
    lag_seconds: float | None = None
    lag_bytes: int | None = None
    error: str | None = None


class Line:
    """A connection outside the pools that comes back by itself, for one question at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection: ObservedConnection | None = None

    async def ask(self, sql: str) -> int | None:
        """Return one number, within WATCH_SECONDS once connected.

        Raises:
            DatabaseUnavailable: no answer.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.engine.get_new_connection()
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                found: int | None = await self._connection.fetchval(sql)
                return found
        except (TimeoutError, asyncpg.PostgresError) as error:
            self.hang_up()
            raise DatabaseUnavailable(reason_of(error)) from error

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


class Replica:
    """A read node of an engine.

    Args:
        primary: whose replica it is.
        engine: for the replica; its pool starts and stops with the primary's.
    """

    def __init__(self, primary: Engine, engine: Engine) -> None:
        self.primary = primary
        self.engine = engine
        self.state = ReplicaState(False)
        self.replayed = 0
        self._sent: deque[tuple[float, int]] = deque()  # when the primary was where
        self._lines = (Line(primary), Line(engine))
        self._reading: set[ObservedConnection] = set()

    async def start(self) -> None:
        await self.engine.start_connection_pool()

    def hang_up(self) -> None:
        """End the line to the primary: its address may lead to another server by now, which need
        not have all that the other had."""
        self._lines[0].hang_up()
        self._sent.clear()

    async def close(self) -> None:
        for line in self._lines:
            line.hang_up()
        await self.engine.close_connection_pool()

    async def fetch(self, sql: str, *args: Any) -> list[Record] | None:
        """Return rows, if they may be stale and the replica has what must be there, else None: the
        primary is to be asked.

        Raises:
            DatabaseUnavailable: the statement took too long, and would on the primary, too.
        """
        position = required_lsn.get()
        if position is None or not self.state.usable or self.replayed < position:
            return None
        try:
            connection = await self.engine.acquire()
        except DatabaseUnavailable:
            return None
        self._reading.add(connection)
        try:
            rows: list[Record] = await connection.fetch(sql, *args)
            return rows
        except DatabaseUnavailable as error:
            if error.reason == "timeout" and self.state.usable:
                raise
            return None
        except asyncpg.PostgresError:  # such as a conflict with replaying; the primary knows better
            return None
        finally:
            self._reading.discard(connection)
            await self.engine.release(connection)

    async def caught_up(self) -> ObservedConnection | None:
        """Return a connection to a replica that has all that the primary has, or None.

        It belongs to the caller. For commands, which have no pool: it waits for up to a second.
        """
        position = await self.primary.fetchval(SENT)
        try:
            connection = await self.engine.get_new_connection()
        except DatabaseUnavailable:
            return None
        try:
            async with asyncio.timeout(1):
                while (replayed := await connection.fetchval(REPLAYED)) is not None:
                    if replayed >= position:
                        return connection
                    await asyncio.sleep(0.05)
        except (TimeoutError, DatabaseUnavailable, asyncpg.PostgresError):
            pass
        connection.terminate()
        return None

    async def watch(self) -> None:
        """Ask both servers once where they are."""
        sent, replayed = await asyncio.gather(
            self._lines[0].ask(SENT), self._lines[1].ask(REPLAYED), return_exceptions=True
        )
        if isinstance(sent, int):
            self._sent.append((time.monotonic(), sent))
        if isinstance(replayed, int):
            self._look_at(replayed)
            return
        if replayed is None:  # its address, or another one, may lead to a standby soon
            self._lines[1].hang_up()
            self.engine.expire_connections("promoted")
        error = "promoted" if replayed is None else reason_of(replayed)
        self._tell(ReplicaState(False, error=error))

    def _look_at(self, replayed: int) -> None:
        self.replayed = replayed
        while self._sent and self._sent[0][1] <= replayed:
            self._sent.popleft()
        lag = time.monotonic() - self._sent[0][0] if self._sent else 0.0
        behind = self._sent[-1][1] - replayed if self._sent else 0
        usable = lag <= MAX_LAG_SECONDS
        error = None if usable else "lagging"
        self._tell(ReplicaState(usable, round(lag, 1), behind, error))

    def _tell(self, state: ReplicaState) -> None:
        was, self.state = self.state, state
        if state.usable and not was.usable:
            log.info("replica_usable")
        if not state.usable:
            if was.usable or was.error != state.error:
                log.warning("replica_unusable", reason=state.error)
            for connection in self._reading:  # their readers go on against the primary
                connection.terminate()
