"""Which file has which rows: the table `audit_archives`.

Nobody signs it: what a file holds is verified against the seals.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from audit.database import Queries, Record

FILE = """
    SELECT id, name, first_seal, last_seal, first_id, last_id, row_count,
           timestamptz_send(oldest_at) AS oldest, timestamptz_send(newest_at) AS newest
    FROM audit_archives
"""
OF_SEAL = f"{FILE} WHERE $1 BETWEEN first_seal AND last_seal ORDER BY id DESC LIMIT 1"
OF_ROW = f"{FILE} WHERE $1 BETWEEN first_id AND last_id ORDER BY id DESC LIMIT 1"
OF_ROWS = f"{FILE} WHERE first_id <= $2 AND last_id >= $1 ORDER BY first_id"
AFTER = f"{FILE} WHERE last_id > $1 AND first_id <= $2 ORDER BY first_id LIMIT 1"
# Those that may hold rows of a time, the newest first; a page that goes on to the row $3 has all
# that is newer.
OF_TIME = f"""{FILE}
    WHERE ($1::timestamptz IS NULL OR newest_at >= $1)
      AND ($2::timestamptz IS NULL OR oldest_at < $2)
      AND coalesce(newest_at >= (SELECT created_at FROM audit_logs WHERE id = $3), true)
    ORDER BY newest_at DESC
"""  # noqa: S608  constants only
# While the rows are in the table.
INSERT = """
    INSERT INTO audit_archives (name, bytes, first_seal, last_seal, first_id, last_id, row_count,
                                oldest_at, newest_at, created_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, min(created_at), max(created_at), clock_timestamp()
    FROM audit_logs WHERE id BETWEEN $5 AND $6
"""


class File(NamedTuple):
    """A file of the catalog; moments in microseconds since 2000."""

    id: int
    name: str
    first_seal: int
    last_seal: int
    first_id: int
    last_id: int
    row_count: int
    oldest: int
    newest: int

    @classmethod
    def of(cls, row: Record) -> File:
        """Make it from a row of FILE."""
        values = dict(row)
        return cls(**values | {name: moment(values[name]) for name in ("oldest", "newest")})


def moment(sent: bytes) -> int:
    """Return what `timestamptz_send` says, in microseconds since 2000."""
    return int.from_bytes(sent, "big", signed=True)


async def one(db: Queries, sql: str, *args: int) -> File | None:
    """Return the file that one of the statements above finds."""
    row = await db.fetchrow(sql, *args)
    return File.of(row) if row else None


async def of_time(
    db: Queries, since: datetime | None, until: datetime | None, end: int | None
) -> list[File]:
    """Return files that may hold rows of a time, the newest first.

    Args:
        end: the row of the table up to which a page goes.
    """
    return [File.of(row) for row in await db.fetch(OF_TIME, since, until, end)]


async def of_rows(db: Queries, first: int, last: int) -> list[File]:
    """Return files that hold rows of these ids."""
    return [File.of(row) for row in await db.fetch(OF_ROWS, first, last)]
