"""Piccolo's PostgresEngine with connections that are bounded, lazy and observed.

Importing it connects to nothing; the pool exists before the database does; nothing waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast
from weakref import WeakSet

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from piccolo.engine.postgres import PostgresEngine

from audit.errors import DatabaseUnavailable, PoolTimeout
from audit.jobs import Job, Supervisor
from audit.log import Logger
from home.config.settings import ROOT, Settings
from home.database.connection import (
    ONE_REQUEST,
    ObservedConnection,
    Timings,
    create_pool,
)
from home.database.connection_queue import ConnectionQueue
from home.database.embedded import EmbeddedServer
from home.database.errors import is_lost_connection
from home.database.hosts import Hosts
from home.database.pool import PoolFigures, PoolKeeper
from home.database.probe import Probe
from home.database.replica import WATCH_SECONDS, Replica
from home.database.spare import SpareConnection

log = Logger("groundwork.database")

EXPIRE_SECONDS = 1.0


class PooledEngine(PostgresEngine):
    """An engine that hands out connections, and closes them all.

    Args:
        settings: pool size and time limits, in milliseconds.
        is_replica: a read node, which another engine watches and falls back from.
    """

    replica: Replica | None = None
    connection_class = ObservedConnection  # of the connections that are opened next

    def __init__(self, settings: Settings, *, is_replica: bool, nodes: dict[str, Any]) -> None:
        self.settings = settings
        self.is_replica = is_replica
        database = settings.replica if is_replica else settings.database
        self.embedded = None if database else EmbeddedServer(ROOT / ".data")
        self.timings = Timings()
        self._queue = self._new_queue()
        self._spare = SpareConnection()
        self.is_closed = False
        self._reviving: asyncio.Task[dict[str, Any]] | None = None
        self._pooled: WeakSet[ObservedConnection] = WeakSet()
        self._expired_at = -EXPIRE_SECONDS
        self.probe = Probe(self)
        self.hosts = Hosts(self)
        super().__init__(config=dict(database.args) if database else {}, extra_nodes=nodes)
        self.jobs = Supervisor(self._jobs())

    def _jobs(self) -> Iterator[Job]:
        if not self.is_replica:
            yield PoolKeeper(self).job()
            if (watch := self.hosts.job()) is not None:
                yield watch
        if self.replica is not None:
            yield Job("watch the replica", self.replica.watch, WATCH_SECONDS, at_once=True)

    # Piccolo's constructor calls these two; they would connect.
    async def check_version(self) -> None: ...

    async def prep_database(self) -> None: ...

    async def get_new_connection(
        self, session: Mapping[str, str] | None = None, **options: Any
    ) -> ObservedConnection:
        """Open a connection that belongs to the caller.

        Args:
            session: PostgreSQL's settings of the session.
            options: more arguments of `asyncpg.connect`.
        """
        if self.embedded is not None and not self.config:
            self.config.update(await asyncio.to_thread(self.embedded.start))
        try:
            return await self.hosts.connect({**self.config, **options}, session or {})
        except DatabaseUnavailable as error:
            if self.embedded is None or error.reason != "refused":
                raise
        await self._revive(self.embedded)
        return await self.hosts.connect({**self.config, **options}, session or {})

    async def _revive(self, embedded: EmbeddedServer) -> None:
        """Start the embedded server again, which somebody killed; one attempt serves all."""
        if self._reviving is None or self._reviving.done():
            log.warning("embedded_server_is_gone")
            self._reviving = asyncio.create_task(asyncio.to_thread(embedded.start))
            self._reviving.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({self._reviving}, timeout=self.settings.db_connection_timeout_ms / 1000)
        if not self._reviving.done():
            raise DatabaseUnavailable("starting_up")
        self.config.update(self._reviving.result())

    async def acquire(self) -> ObservedConnection:
        """Return a connection from the pool, or a single one where there is no pool (commands).

        Raises:
            PoolTimeout: after `DB_CONNECTION_TIMEOUT_MS`.
        """
        if self.pool is None:
            if self.is_closed:
                raise DatabaseUnavailable("shutting_down")
            return self._spare.take() or await self.get_new_connection()
        queue, pool = self._queue, self.pool
        try:
            await queue.take()
        except TimeoutError as error:
            full = self.figures().in_use >= self.settings.db_pool_max
            raise (PoolTimeout() if full else DatabaseUnavailable("timeout")) from error
        try:  # at once, or as soon as it is connected, for which `connect` has a limit
            return cast(ObservedConnection, await pool.acquire())  # a proxy, which looks like one
        except BaseException as error:
            queue.give()
            if isinstance(error, asyncpg.InterfaceError) and is_lost_connection(error):
                raise DatabaseUnavailable("shutting_down") from error
            raise

    def _new_queue(self) -> ConnectionQueue:
        seconds = self.settings.db_connection_timeout_ms / 1000
        return ConnectionQueue(self.settings.db_pool_max, seconds)

    async def release(self, connection: ObservedConnection, limit: float | None = 1) -> None:
        """Give a connection back; never fails, never waits long, survives cancellation.

        Without a `limit` (seconds) it is cheaper: where nothing is left that would have to end.
        """
        try:
            if self.pool is None:
                done = (
                    connection.close(timeout=1) if self.is_closed else self._spare.give(connection)
                )
                await asyncio.shield(done)
                return
            try:
                await self.pool.release(cast(PoolConnectionProxy, connection), timeout=limit)
            finally:
                self._queue.give()
        except Exception as error:
            log.debug("release_failed", error=type(error).__name__)
            with contextlib.suppress(asyncpg.InterfaceError):  # its end may have released it
                connection.terminate()

    async def start_connection_pool(self, **kwargs: Any) -> None:
        """Make the pool, empty, whatever the database does; warm it in the background."""
        if self.pool is not None:  # a second one would leave the first without an owner
            log.warning("pool_exists")
            return
        self.is_closed = False
        await self._spare.close()
        self._queue = self._new_queue()
        self.pool = await create_pool(self.settings, self._connect_for_pool, **kwargs)
        if self.replica is not None:
            await self.replica.start()
        self.jobs.start()

    async def _connect_for_pool(self, dsn: None, **options: Any) -> ObservedConnection:
        limit = options["command_timeout"]  # the rest is what asyncpg.connect has as defaults
        connection = await self.get_new_connection(ONE_REQUEST, command_timeout=limit)
        connection.timings = self.timings
        self._pooled.add(connection)
        if not self.is_replica:
            connection.when_lost = self._connection_lost
        return connection

    def _connection_lost(self, reason: str) -> None:
        if reason == "read_only":
            self.expire_connections()
        elif reason == "pooler_not_configured":  # some statements get through all the same
            self.probe.problem = reason

    def expire_connections(self, reason: str = "read_only", unless: str | None = None) -> None:
        """Have connections of the pool opened anew, since they lead to a server that takes no
        changes: the address may lead to another one by now. At most once a second.

        Args:
            unless: the host, of several, whose connections stay.
        """
        now = time.monotonic()
        if unless is None:
            if now - self._expired_at < EXPIRE_SECONDS:
                return
            self._expired_at = now
        old = [each for each in self._pooled if unless is None or each.host != unless]
        if old:
            log.warning("connections_expired", reason=reason, number=len(old))
        for connection in old:
            connection.expire()
        self.probe.hang_up()
        self._spare.hang_up()
        if self.replica is not None:
            self.replica.hang_up()

    async def close_connection_pool(self) -> None:
        """Close all connections, at the latest after two seconds."""
        self.is_closed = True
        if self.replica is not None:
            await self.replica.close()
        await self.jobs.close()
        await self.probe.close()
        await self._spare.close()
        pool, self.pool = self.pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(2):
                    await pool.close()
            except (Exception, asyncio.CancelledError):
                pool.terminate()
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.stop)

    def is_full(self) -> bool:
        """Return whether the next one has to wait for a connection."""
        return not self._queue.free

    def figures(self) -> PoolFigures:
        """Return what the pool holds now."""
        size = self.pool.get_size() if self.pool else 0
        idle = self.pool.get_idle_size() if self.pool else 0
        return PoolFigures(size, idle, size - idle, self._queue.waiting, self.settings.db_pool_max)
