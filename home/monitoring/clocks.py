"""Clocks that are, or were, wrong: this process's, and whichever has left times in the future."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg

from audit.database import Database
from audit.jobs import Job
from audit.log import Logger
from home.services import Services

LOOK_SECONDS = 60
TOLERANCE_SECONDS = 60
MOST = 1_000  # rows of a table that are counted

NOW = "SELECT extract(epoch FROM clock_timestamp())::float"
# Those that can be looked through at once: small ones, and ones with an index.
TABLES = """
    SELECT quote_ident(relname) AS table FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')
      AND attname = 'created_at' AND atttypid = 'timestamptz'::regtype
      AND has_column_privilege(pg_class.oid, attnum, 'SELECT')
      AND (reltuples < 100000 OR EXISTS (
          SELECT FROM pg_index
          WHERE indrelid = pg_class.oid AND indkey[0] = attnum AND indpred IS NULL AND indisvalid))
    ORDER BY relname
"""
AHEAD = """
    SELECT count(*) FROM (
        SELECT FROM {} WHERE created_at > now() + interval '1 minute' LIMIT {}
    ) AS ahead
"""

log = Logger("groundwork.clocks")


@dataclass
class Clocks:
    """Clocks and times compared with the database's clock, as this process last saw them.

    Args:
        ahead_seconds: of this process's clock; negative where it is behind.
        rows: created in the future, by table; at most `MOST` each.
    """

    ahead_seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def is_wrong(self) -> bool:
        """Return whether this process's clock, or the database's, is wrong now."""
        return abs(self.ahead_seconds) > TOLERANCE_SECONDS

    def sentences(self) -> list[str]:
        """Return what is wrong, in sentences."""
        found = []
        if self.is_wrong:
            direction = "ahead of" if self.ahead_seconds > 0 else "behind"
            apart = timedelta(seconds=round(abs(self.ahead_seconds)))
            found.append(f"the application's clock is {apart} {direction} the database's")
        for table, number in self.rows.items():
            rows = f"{number:,} rows or more" if number == MOST else f"{number:,} rows"
            found.append(f"{rows} of {table} were created in the future: a clock was ahead")
        return found


seen = Clocks()


async def look(db: Database) -> None:
    """Compare clocks and times with the database's clock; log what is wrong when it changes."""
    before = seen.sentences()
    started = time.time(), time.monotonic()
    now = await db.fetchval(NOW)
    seen.ahead_seconds = started[0] + (time.monotonic() - started[1]) / 2 - now
    tables = [row["table"] for row in await db.fetch(TABLES)]
    counted = {table: await _rows_ahead(db, table) for table in tables}
    seen.rows = {table: number for table, number in counted.items() if number}
    found = seen.sentences()
    if [each for each in found if each not in before]:
        log.warning("clock_is_wrong" if seen.is_wrong else "times_in_the_future", found=found)
    elif before and not found:
        log.info("clocks_are_right")


async def _rows_ahead(db: Database, table: str) -> int:
    try:
        number: int = await db.fetchval(AHEAD.format(table, MOST))
    except asyncpg.UndefinedTableError:  # dropped meanwhile
        return 0
    return number


def jobs(services: Services) -> list[Job]:
    """Return the job that compares the clocks every minute."""

    async def run() -> None:
        await look(services.db)

    return [Job("compare the clocks", run, LOOK_SECONDS, at_once=True)]
