"""Is the database there? One probe on one connection of its own, shared by all who ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import orjson
from piccolo.apps.migrations.tables import Migration
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from home.engine import Engine
from home.errors import DatabaseUnavailable

# Every answer is out within 500 ms (requirement D4); the rest of that is for the way back.
DEADLINE_SECONDS = 0.45
PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")


@dataclass(frozen=True)
class Verdict:
    """What a probe found; `latency_ms` where connected, else a reason code."""

    connected: bool
    latency_ms: float | None = None
    error: str | None = None


class Probe:
    """Asks the database at most one question at a time, however many callers wait for the answer.

    It never takes a slot of the pool, so a full pool does not look like a dead database.
    """

    def __init__(self, db: Engine) -> None:
        self.db = db
        self._connection: Any = None
        self._running: asyncio.Task[Verdict] | None = None
        self._started = 0.0

    async def verdict(self) -> Verdict:
        """The state of the database, at the latest after 450 ms."""
        if self._running is None:
            self._started = time.monotonic()
            self._running = asyncio.create_task(self._ask(), name="health probe")
            self._running.add_done_callback(self._forget)
        running = self._running
        remaining = self._started + DEADLINE_SECONDS - time.monotonic()
        done, _ = await asyncio.wait({running}, timeout=max(remaining, 0))
        return running.result() if done else Verdict(False, error="timeout")

    async def figures(self) -> dict[str, Any]:
        """What administrators may see besides: pool, server version, pending migrations."""
        pool = asdict(self.db.figures())
        if self._connection is None or self._running is not None:
            return {"pool": pool}
        version = self._connection.get_server_version()
        return {"pool": pool, "serverVersion": f"{version.major}.{version.minor}"}

    async def close(self) -> None:
        """End the probe's connection."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _forget(self, task: asyncio.Task[Verdict]) -> None:
        self._running = None

    async def _ask(self) -> Verdict:
        # Connecting may take longer than the deadline (TLS, a database that wakes up): the probe
        # goes on, callers are told «timeout», and the next ones find it connected.
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self.db.get_new_connection(
                    command_timeout=self.db.settings.db_connection_timeout_ms / 1000,
                    server_settings={"application_name": "groundwork health"},
                )
            started = time.perf_counter()
            await self._connection.fetchval("select 1")
            return Verdict(True, latency_ms=round((time.perf_counter() - started) * 1000, 2))
        except DatabaseUnavailable as error:
            return Verdict(False, error=error.reason)
