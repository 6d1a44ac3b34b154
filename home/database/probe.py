"""Is the database there? One probe on one connection of its own, shared by all who ask."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from audit.errors import DatabaseUnavailable
from home.database.migrations import pending_migrations
from home.database.pool import IS_READ_ONLY, version_text

if TYPE_CHECKING:
    from home.database.connection import ObservedConnection
    from home.database.pooled_engine import PooledEngine

# An answer that waits for the probe is out within 500 ms; the rest is for the way back.
DEADLINE_SECONDS = 0.45


@dataclass
class Verdict:
    """The result of a probe: `latency_ms` where connected, and `error`, a reason code, where the
    database cannot be used or takes no changes."""

    connected: bool
    latency_ms: float | None = None
    error: str | None = None

    @property
    def is_healthy(self) -> bool:
        """Return whether the database answers and takes changes."""
        return self.connected and self.error is None


class Probe:
    """Ask the database at most one question at a time, however many wait for the answer.

    It never takes a slot of the pool, so a full pool does not look like a dead database.
    """

    def __init__(self, db: PooledEngine) -> None:
        self.db = db
        self.problem: str | None = None  # that only a restart with other settings ends
        self._connection: ObservedConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._callers: list[asyncio.Future[Verdict]] = []
        self._known: Verdict | None = None

    async def verdict(self) -> Verdict:
        """Return the state of the database, at the latest 450 ms after the probe began.

        Connecting may take longer than that (TLS, a database that wakes up): the probe goes on,
        its callers get «timeout», and later ones find it connected.
        """
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._known = None
            self._task = loop.create_task(self._ask(), name="health probe")
            too_late = Verdict(False, error="timeout")
            self._deadline = loop.call_later(DEADLINE_SECONDS, self._tell, too_late)
        if self._known is not None:
            return self._known
        # A future for each: a caller that goes away takes nothing from the others.
        caller: asyncio.Future[Verdict] = loop.create_future()
        self._callers.append(caller)
        return await caller

    async def details(self) -> dict[str, Any]:
        """Return what administrators may see besides: the pool, the server, pending migrations."""
        found: dict[str, Any] = {"pool": asdict(self.db.figures())}
        if self.db.replica is not None:
            found["replica"] = asdict(self.db.replica.state)
        if self._connection is not None and not self._connection.is_closed():
            found["serverVersion"] = version_text(self._connection.get_server_version())
            try:
                async with asyncio.timeout(DEADLINE_SECONDS / 2):
                    found["pendingMigrations"] = await pending_migrations(self._connection)
            except (TimeoutError, DatabaseUnavailable):
                pass  # the report already says what it knows
        return found

    def hang_up(self) -> None:
        """End the connection, unless it is in use: the next probe opens another."""
        if self._task is None and self._connection is not None:
            self._connection.terminate()

    async def close(self) -> None:
        """End the probe and its connection."""
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.terminate()

    def _tell(self, verdict: Verdict) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._known = verdict
        callers, self._callers = self._callers, []
        for caller in callers:
            if not caller.done():
                caller.set_result(verdict)

    async def _ask(self) -> None:
        try:
            if self._connection is None or self._connection.is_closed():
                limit = self.db.settings.db_connection_timeout_ms / 1000
                self._connection = await self.db.get_new_connection(
                    server_settings={"application_name": "groundwork health"}, command_timeout=limit
                )
            started = time.perf_counter()
            read_only = await self._connection.fetchval(IS_READ_ONLY)
            latency_ms = round((time.perf_counter() - started) * 1000, 2)
            self._tell(Verdict(True, latency_ms, "read_only" if read_only else self.problem))
            if read_only:  # the next probe looks where the address leads then
                self._connection.terminate()
                self.db.expire_connections()
        except DatabaseUnavailable as error:
            self._tell(Verdict(False, error=error.reason))
        except BaseException:  # shutting down, or an error of ours: nobody waits for ever
            self._tell(Verdict(False, error="connection_lost"))
            raise
        finally:
            self._task = None
