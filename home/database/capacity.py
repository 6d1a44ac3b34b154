"""The arithmetic of connections: what all workers may open, and what the server has for them."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from audit.errors import DatabaseUnavailable, GroundworkError
from audit.log import Logger
from home.config.settings import Settings
from home.database.connection import ObservedConnection
from home.database.engine import Engine

log = Logger("groundwork.database")

HEALTH, LAG = 1, 1  # connections of a process besides its pools
LIMITS = """
    SELECT current_setting('max_connections')::int AS max_connections,
           current_setting('superuser_reserved_connections')::int
           + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int
           AS reserved,
           (SELECT sum(numbackends) FROM pg_stat_database)::int - 1 AS in_use,
           nullif((SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user), -1) AS of_role,
           nullif((SELECT datconnlimit FROM pg_database WHERE datname = current_database()), -1)
           AS of_database
"""


class TooManyConnections(GroundworkError):
    """The workers may open more connections than the database server has."""


@dataclass(frozen=True)
class Server:
    """A server's limits of connections; None is no limit."""

    max_connections: int
    reserved: int
    in_use: int
    of_role: int | None
    of_database: int | None

    @property
    def limits(self) -> dict[str, int]:
        """Return how many connections there are, by what says so."""
        ours = self.max_connections - self.reserved
        found = {f"max_connections {self.max_connections}, {self.reserved} of them reserved": ours}
        if self.of_role is not None:
            found["CONNECTION LIMIT of the role"] = self.of_role
        if self.of_database is not None:
            found["CONNECTION LIMIT of the database"] = self.of_database
        return found


def connections_of(settings: Settings, *, to_replica: bool) -> int:
    """Return how many connections a process may open to the primary, or to the replica."""
    if to_replica:
        return settings.db_pool_max + LAG
    return settings.db_pool_max + HEALTH + (LAG if settings.replica else 0)


async def check_capacity(db: Engine) -> int:
    """Compare what all workers may open with what the servers have.

    Where a server does not answer, or a pooler stands before it, nothing is compared: a pooler has
    limits of its own, which its clients cannot ask for.

    Returns:
        How many connections the workers may open to the primary.

    Raises:
        TooManyConnections: more than there are; the message says what to do.
    """
    settings = db.settings
    await _check(db, settings, "DATABASE_URL", connections_of(settings, to_replica=False))
    if db.replica is not None:
        each = connections_of(settings, to_replica=True)
        await _check(db.replica.engine, settings, "DATABASE_REPLICA_URL", each)
    return settings.workers * connections_of(settings, to_replica=False)


async def _check(db: Engine, settings: Settings, name: str, each: int) -> None:
    if settings.db_pooler == "transaction":
        log.info("connections_not_compared", server=name, reason="behind_a_pooler")
        return
    try:
        connection = await db.get_new_connection()
    except DatabaseUnavailable as error:
        log.warning("connections_not_compared", server=name, reason=error.reason)
        return
    try:
        server = await _limits(connection)
    except (DatabaseUnavailable, asyncpg.PostgresError) as error:
        log.warning("connections_not_compared", server=name, reason=type(error).__name__)
        return
    finally:
        connection.terminate()
    needed = settings.workers * each
    why, there = min(server.limits.items(), key=lambda limit: limit[1])
    if needed > there:
        besides = each - settings.db_pool_max
        raise TooManyConnections(_refusal(settings.workers, each, there, why, name, besides))
    restarting = needed + each  # one worker more, while it takes another's place
    if restarting + server.in_use > there:
        log.warning(
            "connections_scarce",
            server=name,
            needed=needed,
            while_restarting=restarting,
            used_by_others=server.in_use,
            there=there,
        )


async def _limits(connection: ObservedConnection) -> Server:
    row = await connection.fetchrow(LIMITS)
    return Server(**dict(row))


def _refusal(workers: int, each: int, there: int, why: str, name: str, besides: int) -> str:
    """Return what is too much, and what to do about it."""
    mends = []
    if fewer := there // each:
        mends.append(f"set WORKERS to at most {fewer}")
    if (pool := there // workers - besides) > 0:
        mends.append(f"DB_POOL_MAX to at most {pool}")
    mends.append("let the server have more")
    return (
        f"WORKERS: {workers} workers with up to {each} connections each make {workers * each}, "
        f"and {name} leads to a server that has {there} ({why}): {', '.join(mends)}, "
        "or put PgBouncer in between and set DB_POOLER=transaction."
    )
