"""Runs that begin because they are due: one for each due time, whoever looks."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from audit.database import Connection, Database
from audit.log import Logger
from sync_history import retries
from sync_history.retries import ACTIVE
from sync_history.sources import Source

# $2 is the newest due time, $3 the next. Older ones that nobody was there for are not made up for
# one by one.
IS_DUE = f"""
    SELECT $2::timestamptz AS slot
    WHERE NOT EXISTS ({ACTIVE})
      AND NOT EXISTS (
        SELECT FROM sync_history WHERE source = $1 AND due_at >= $2 AND due_at <= $3)
"""  # noqa: S608  constants only
START = f"""
    INSERT INTO sync_history (source, trigger_type, due_at, attempts)
    SELECT $1, 'automatic', slot, $4 FROM ({IS_DUE}) AS due RETURNING id
"""  # noqa: S608  constants only
# By a clock that was ahead and has been set back: none that lies beyond the next one counts.
AHEAD = """
    SELECT due_at FROM (
        SELECT due_at FROM sync_history WHERE source = $1 AND due_at IS NOT NULL
        ORDER BY id DESC LIMIT 1
    ) AS last WHERE due_at > $2
"""

log = Logger("groundwork.sync")


class Due(NamedTuple):
    """The newest due time of a source, and the next."""

    last: datetime
    following: datetime


async def due_of(db: Database, source: Source) -> Due | None:
    """Return when a source is due, by the database's clock; None if it is not, or runs already."""
    now = await db.fetchval("SELECT statement_timestamp()")
    due = Due(source.last_due(now), source.next_due(now))
    return due if await db.fetch(IS_DUE, source.name, *due) else None


async def start(connection: Connection, source: Source, due: Due) -> int | None:
    """Make the pending run of a due time; None if somebody else has done so."""
    if (ahead := await connection.fetchval(AHEAD, source.name, due.following)) is not None:
        log.warning("due_time_in_the_future", source=source.name, due_at=str(ahead))
    id_: int | None = await connection.fetchval(START, source.name, *due, source.retries + 1)
    if id_ is not None:
        await connection.execute(retries.SUPERSEDE, source.name)
    return id_
