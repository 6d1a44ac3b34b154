"""Removing old runs, but for the newest of each source."""

from __future__ import annotations

from datetime import datetime

from audit.database import Database
from audit.record import record

AT_ONCE = 1_000
OLD = """
    SELECT id FROM (
        SELECT id, created_at, status, row_number() OVER (PARTITION BY source ORDER BY id DESC) AS n
        FROM sync_history
    ) AS runs
    WHERE n > $2 AND created_at < $1 AND status NOT IN ('pending', 'running')
"""
COUNT = f"SELECT count(*) FROM ({OLD}) AS old"  # noqa: S608  constants only
DELETE = f"DELETE FROM sync_history WHERE id IN ({OLD} LIMIT {AT_ONCE}) RETURNING id"  # noqa: S608


async def due(db: Database, before: datetime, keep: int) -> int:
    """Return how many runs are older than a moment, and not the last `keep` of their source."""
    count: int = await db.fetchval(COUNT, before, keep)
    return count


async def prune(db: Database, before: datetime, keep: int) -> int:
    """Remove them, a thousand at a time; return how many. The trail says what they were."""
    removed = 0
    while gone := len(await db.fetch(DELETE, before, keep)):
        removed += gone
    details = {"before": before.isoformat(), "keep": keep, "runs": removed}
    await record(db, "sync_history.prune", "sync_history", details=details)
    return removed
