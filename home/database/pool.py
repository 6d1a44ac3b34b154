"""Filling the pool in the background, and saying in the log when the database comes and goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit.errors import DatabaseUnavailable, PoolTimeout
from audit.jobs import Job
from audit.log import Logger
from home.database.errors import unavailable

if TYPE_CHECKING:
    from asyncpg.types import ServerVersion

    from home.database.connection import ObservedConnection
    from home.database.pooled_engine import PooledEngine

log = Logger("groundwork.database")

OLDEST_VERSION = (15, 0)
FILL_SECONDS = 5.0
# A standby, or a server whose administrator wants no changes for now.
IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
A_WEEK = 7 * 86_400.0


@dataclass(frozen=True)
class PoolFigures:
    """Connections of the pool now, and tasks that wait for one."""

    size: int
    idle: int
    in_use: int
    waiting: int
    max: int


class PoolKeeper:
    """Holds DB_POOL_MIN connections, and says in the log when the database comes and goes."""

    def __init__(self, engine: PooledEngine) -> None:
        self.engine = engine
        self._connected: bool | None = None  # not known yet

    def job(self) -> Job:
        """Return what keeps the pool filled."""
        can_sleep = self.engine.settings.db_pool_min == 0
        every = A_WEEK if can_sleep else FILL_SECONDS  # a database may go to sleep, then
        return Job("keep the pool warm", self.fill, every, at_once=True, longest_pause=FILL_SECONDS)

    async def fill(self) -> None:
        """Open the connections that are missing.

        Raises:
            DatabaseUnavailable: they cannot be opened, or lead to a server that takes no changes.
        """
        try:
            version, fields = await _fill_pool(self.engine)
        except DatabaseUnavailable as error:
            if self._connected is not False:
                hint = {"hint": error.hint} if error.hint else {}
                log.warning("database_unavailable", reason=error.reason, **hint)
            self._connected = False
            raise
        if not self._connected:
            log.info(f"Connected to {version}", **fields)
        self._connected = True


async def _fill_pool(engine: PooledEngine) -> tuple[str, dict[str, Any]]:
    connections: list[ObservedConnection] = []
    try:
        for _ in range(max(engine.settings.db_pool_min, 1)):
            connections.append(await engine.acquire())
            if engine.is_full():  # so it is warm: hold none while waiting for another
                break
        started = time.perf_counter()
        if await connections[0].fetchval(IS_READ_ONLY):
            engine.expire_connections()
            raise unavailable("read_only")
        fields: dict[str, Any] = {"round_trip_ms": round((time.perf_counter() - started) * 1000, 2)}
        if connections[0].host is not None:
            fields["host"] = connections[0].host
        version = connections[0].get_server_version()
        if version < OLDEST_VERSION:
            log.warning("database_too_old", oldest_supported=OLDEST_VERSION[0])
        return f"PostgreSQL {version_text(version)}", fields
    except PoolTimeout:  # busy, so it is warm
        return "PostgreSQL", {}
    finally:
        for connection in connections:
            await engine.release(connection)


def version_text(version: ServerVersion) -> str:
    """Return «15.18» from asyncpg's ServerVersion, which keeps the second number in `micro`."""
    return f"{version.major}.{version.micro}"
