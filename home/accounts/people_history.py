"""Who it was that turned something on for a person, as the trail says."""

from __future__ import annotations

from audit.database import Database, Record

NEWEST_TURN = """
    SELECT created_at, actor, user_id FROM audit_logs
    WHERE resource = 'users' AND resource_id = $1::integer::text
      AND details -> 'after' ->> $2::text = 'true'
    ORDER BY id DESC LIMIT 1
"""


async def newest_turn(db: Database, user_id: int, column: str) -> Record | None:
    """Return the row of the trail that last made a column of an account true, or None."""
    return await db.fetchrow(NEWEST_TURN, user_id, column)
