"""Removing old runs, but for the newest of each source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from audit.record import record
from sync_history.tables import SyncRun

AT_ONCE = 1_000
OLD = """
    SELECT id FROM (
        SELECT id, created_at, status, row_number() OVER (PARTITION BY source ORDER BY id DESC) AS n
        FROM sync_history
    ) AS runs
    WHERE n > $2 AND created_at < $1 AND status NOT IN ('pending', 'running')
"""
DELETE = f"DELETE FROM sync_history WHERE id IN ({OLD} LIMIT {AT_ONCE}) RETURNING id"  # noqa: S608


async def due(before: datetime, keep: int) -> int:
    """How many runs are older than a moment, and not among the last `keep` of their source."""
    [row] = await _db().fetch(f"SELECT count(*) AS runs FROM ({OLD}) AS old", before, keep)  # noqa: S608
    return int(row["runs"])


async def prune(before: datetime, keep: int) -> int:
    """Remove them, a thousand at a time; returns how many. The trail says what they were."""
    removed = 0
    while gone := len(await _db().fetch(DELETE, before, keep)):
        removed += gone
    details = {"before": before.isoformat(), "keep": keep, "runs": removed}
    await record(_db(), "sync_history.prune", "sync_history", details=details)
    return removed


def _db() -> Any:
    return SyncRun._meta.db
