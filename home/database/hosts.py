"""Several hosts: finding the one that is wanted, and leaving the one that was.

The settings name them, PostgreSQL's managers decide which is the primary, and each server says what
it is. A host that is dead or hangs costs a connection a fifth of a second, once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from audit.errors import DatabaseUnavailable
from audit.jobs import Job
from audit.log import Logger
from home.database.connection import ObservedConnection, connect
from home.database.errors import unavailable

if TYPE_CHECKING:
    from home.database.pooled_engine import PooledEngine

log = Logger("groundwork.database")

# Before the next host is tried as well.
HEAD_START_SECONDS = 0.2
# Twice these, and a little, until all connections have left a host that hangs.
WATCH_SECONDS = 0.5
SEARCH_SECONDS = 0.75
KIND = """
    SELECT pg_is_in_recovery() AS is_standby,
           current_setting('default_transaction_read_only')::bool AS is_read_only
"""
# What says least about why none of several hosts will do.
UNREACHABLE = ("refused", "timeout", "connection_lost", "unknown_host", "starting_up")


class Hosts:
    """Opens the connections of an engine, and knows which host they lead to."""

    def __init__(self, engine: PooledEngine) -> None:
        self.engine = engine
        self.current: str | None = None
        self._opened: WeakSet[ObservedConnection] = WeakSet()

    def job(self) -> Job | None:
        """Return what leaves a host that hangs, where there are several."""
        if not are_several(self.engine.config) or self.engine.settings.db_pool_min == 0:
            return None  # a database may go to sleep, then
        return Job("watch the primary", self.watch, WATCH_SECONDS, longest_pause=WATCH_SECONDS)

    async def connect(
        self, arguments: Mapping[str, Any], session: Mapping[str, str]
    ) -> ObservedConnection:
        """Open a connection, see `home.database.connection.connect`."""
        arguments = {"connection_class": self.engine.connection_class, **arguments}
        if not are_several(arguments):
            return await connect(self.engine.settings, arguments, session)
        seconds = self.engine.settings.db_connection_timeout_ms / 1000
        search = Search(self.engine, arguments, session)
        connection = await search.run(self.current, arguments.get("timeout", seconds))
        self._opened.add(connection)
        if connection.host != self.current:
            self._move_to(connection.host)
        return connection

    def _move_to(self, host: str | None) -> None:
        was, self.current = self.current, host
        if was is not None:
            log.warning("database_moved", host=host, was=was)
            self.engine.expire_connections("moved", unless=host)

    async def watch(self) -> None:
        """Look for another host where the database gives no answer, or takes no changes.

        What waits on a connection to the old one fails now, rather than after its time-out.

        Raises:
            DatabaseUnavailable: there is none.
        """
        if (await self.engine.probe.verdict()).is_healthy:
            return
        connection = await self.engine.get_new_connection(timeout=SEARCH_SECONDS)
        for other in list(self._opened):
            if other.host != connection.host:
                other.terminate()
        await connection.close(timeout=1)


def are_several(arguments: Mapping[str, Any]) -> bool:
    """Return whether a DSN names several hosts. A single one may be a path with a comma."""
    return "," in str(arguments.get("port", ""))


class Search:
    """Asks the hosts in turn, the next one as soon as one fails or takes its time."""

    def __init__(
        self, engine: PooledEngine, arguments: Mapping[str, Any], session: Mapping[str, str]
    ) -> None:
        self.settings = engine.settings
        self.arguments = arguments
        self.session = session
        self.wanted: str = arguments["target_session_attrs"]
        self.second_best: ObservedConnection | None = None
        self.reasons: dict[str, str] = {}

    async def run(self, first: str | None, seconds: float) -> ObservedConnection:
        """Return a connection to the first host that is as wanted.

        Raises:
            DatabaseUnavailable: there is none.
        """
        hosts = self.arguments["host"].split(",")
        places = list(zip(hosts, map(int, self.arguments["port"].split(",")), strict=True))
        self.reasons = {_name(*place): "timeout" for place in places}
        places.sort(key=lambda place: _name(*place) != first)
        running: set[asyncio.Task[ObservedConnection | None]] = set()
        found: ObservedConnection | None = None
        chosen: ObservedConnection | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    found = await self._ask(places, running)
            chosen = found or self.second_best
        finally:
            for task in running:
                task.add_done_callback(_drop)
                task.cancel()
            if self.second_best is not None and self.second_best is not chosen:
                self.second_best.terminate()
        if chosen is None:
            raise self._failure()
        return chosen

    async def _ask(
        self,
        places: Sequence[tuple[str, int]],
        running: set[asyncio.Task[ObservedConnection | None]],
    ) -> ObservedConnection | None:
        waiting = deque(places)
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(self._try(*waiting.popleft())))
            may_wait = not waiting and self.second_best is None
            pause = None if may_wait else HEAD_START_SECONDS
            done, _ = await asyncio.wait(
                running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if (connection := task.result()) is not None:
                    running.discard(task)
                    return connection
            running -= done
            if not done and not waiting:  # nobody better is there soon
                break
        return None

    async def _try(self, host: str, port: int) -> ObservedConnection | None:
        """Return a connection to this host, if it is as wanted."""
        name = _name(host, port)
        arguments = {**self.arguments, "host": host, "port": port, "target_session_attrs": "any"}
        try:
            connection = await connect(self.settings, arguments, self.session)
        except DatabaseUnavailable as error:
            self.reasons[name] = error.reason
            return None
        try:
            connection.host = name
            [kind] = await connection.fetch(KIND)
        except BaseException as error:
            connection.terminate()
            if not isinstance(error, DatabaseUnavailable):
                raise
            self.reasons[name] = error.reason
            return None
        fits = _fits(self.wanted, kind["is_standby"], kind["is_read_only"])
        if fits:
            return connection
        if fits is None and self.second_best is None:
            self.second_best = connection
        else:
            connection.terminate()
        self.reasons[name] = "wrong_server"
        return None

    def _failure(self) -> DatabaseUnavailable:
        reasons = [*self.reasons.values()]
        telling = [reason for reason in reasons if reason not in UNREACHABLE]
        details = ", ".join(f"{name}: {reason}" for name, reason in self.reasons.items())
        return unavailable((telling or reasons)[0], details)


def _fits(wanted: str, is_standby: bool, is_read_only: bool) -> bool | None:
    """Return whether a server is as `target_session_attrs` asks; None is: if there is no better.

    `any` and `primary` mean a server that takes changes, if there is one: a primary that was told
    to take none has perhaps been left by the others.
    """
    takes_changes = not is_standby and not is_read_only
    match wanted:
        case "any":
            return takes_changes or None
        case "primary":
            return takes_changes or (False if is_standby else None)
        case "read-write":
            return takes_changes
        case "read-only":
            return not takes_changes
        case "prefer-standby":
            return is_standby or None
    return is_standby


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _drop(task: asyncio.Task[ObservedConnection | None]) -> None:
    """End what a task brings that nobody waits for any more."""
    if task.cancelled() or task.exception() is not None:
        return
    if (connection := task.result()) is not None:
        connection.terminate()
