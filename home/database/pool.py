"""Filling the pool in the background, and saying in the log when the database comes and goes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from audit.errors import DatabaseUnavailable, PoolTimeout

if TYPE_CHECKING:
    from home.database.engine import Engine

log = structlog.get_logger("groundwork.database")

OLDEST_VERSION = (15, 0)
KEEP_WARM_SECONDS = 5.0


@dataclass(frozen=True)
class PoolFigures:
    """Connections of the pool now, and tasks that wait for one."""

    size: int
    idle: int
    in_use: int
    waiting: int
    max: int


async def keep_warm(engine: Engine) -> None:
    """Hold DB_POOL_MIN connections, and say in the log when the database comes and goes."""
    connected = False
    retry = AsyncRetrying(
        wait=wait_random_exponential(multiplier=0.2, max=KEEP_WARM_SECONDS),
        retry=retry_if_exception_type(DatabaseUnavailable),
    )
    while True:
        async for attempt in retry:
            with attempt:
                try:
                    version, round_trip_ms = await _fill_pool(engine)
                except DatabaseUnavailable as error:
                    if connected or attempt.retry_state.attempt_number == 1:
                        log.warning("database_unavailable", reason=error.reason)
                    connected = False
                    raise
        if not connected:
            connected = True
            log.info(f"Connected to {version}", round_trip_ms=round_trip_ms)
        if engine.settings.db_pool_min == 0:  # a database that may go to sleep
            return
        await asyncio.sleep(KEEP_WARM_SECONDS)


async def _fill_pool(engine: Engine) -> tuple[str, float]:
    connections: list[Any] = []
    try:
        for _ in range(max(engine.settings.db_pool_min, 1)):
            connections.append(await engine.acquire())
            if engine.is_full():  # so it is warm: hold none while waiting for another
                break
        started = time.perf_counter()
        await connections[0].fetchval("select 1")
        round_trip_ms = round((time.perf_counter() - started) * 1000, 2)
        version = connections[0].get_server_version()
        if version < OLDEST_VERSION:
            log.warning("database_too_old", oldest_supported=OLDEST_VERSION[0])
        return f"PostgreSQL {version_text(version)}", round_trip_ms
    except PoolTimeout:  # busy, so it is warm
        return "PostgreSQL", 0.0
    finally:
        for connection in connections:
            await engine.release(connection)


def version_text(version: Any) -> str:
    """«15.18» from asyncpg's ServerVersion, which keeps the second number in `micro`."""
    return f"{version.major}.{version.micro}"


def log_failure(task: asyncio.Task[None]) -> None:
    """A callback for tasks: what ends them is not lost."""
    if not task.cancelled() and (error := task.exception()):
        log.error("task_failed", task=task.get_name(), exc_info=error)
