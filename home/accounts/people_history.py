"""What the trail says that one person did, and who it was that turned something on for them."""

from __future__ import annotations

from audit.database import Database, Record
from home.accounts.own_history import NEWEST

# By the index on (user_id, created_at): of who did a million things, the last are read.
NEWEST_BY = f"""
    SELECT created_at, actor, user_id, action, resource, resource_id, ip_address,
           details::text AS details
    FROM audit_logs WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT {NEWEST}
"""  # noqa: S608  constants only
NEWEST_TURN = """
    SELECT created_at, actor, user_id FROM audit_logs
    WHERE resource = 'users' AND resource_id = $1::integer::text
      AND details -> 'after' ->> $2::text = 'true'
    ORDER BY id DESC LIMIT 1
"""


async def newest_by(db: Database, user_id: int) -> list[Record]:
    """Return the 20 newest rows of the trail about what a person did, the newest first."""
    return await db.fetch(NEWEST_BY, user_id)


async def newest_turn(db: Database, user_id: int, column: str) -> Record | None:
    """Return the row of the trail that last made a column of an account true, or None."""
    return await db.fetchrow(NEWEST_TURN, user_id, column)
