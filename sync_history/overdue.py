"""Sources that run by themselves, and have not done their work for too long."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from audit.database import Database
from sync_history.sources import Source

GRACE = timedelta(minutes=10)

# Of each state by itself, and with «>=»: the index has the newest run of a source in a state.
LAST_GOOD = """
    SELECT max(good.{column}) FROM unnest(ARRAY['succeeded', 'partial']) AS state, LATERAL (
        SELECT id, completed_at FROM sync_history
        WHERE source >= name AND source <= name AND status >= state AND status <= state
          AND NOT dry_run AND retry_of IS NULL AND {condition}
        ORDER BY source DESC, status DESC, id DESC LIMIT 1
    ) AS good
"""
BY_ITSELF = "trigger_type = 'automatic'"
# Who never ran by itself, as where nothing starts what is due, is not waited for. Nor is a run that
# has begun and may still be in time.
OVERDUE = f"""
    SELECT name, since, ({LAST_GOOD.format(column="id", condition=BY_ITSELF)}) AS last_id
    FROM unnest($1::text[], $2::interval[]) AS wanted (name, within), LATERAL (
        SELECT coalesce(({LAST_GOOD.format(column="completed_at", condition="true")}), due) AS since
        FROM (SELECT min(due_at) AS due FROM sync_history WHERE source = name) AS first
        WHERE due IS NOT NULL
    ) AS found
    WHERE since < now() - within AND NOT EXISTS (
        SELECT FROM sync_history
        WHERE source = name AND status IN ('pending', 'running') AND created_at > now() - within)
"""  # noqa: S608  constants only


class Overdue(NamedTuple):
    """A source that is overdue.

    Args:
        since: when it was good last, or due for the first time.
        last_id: of the last run that began by itself and was good; 0 where there is none.
    """

    name: str
    since: datetime
    last_id: int


async def overdue_of(db: Database, sources: Iterable[Source]) -> list[Overdue]:
    """Return which of these sources are overdue: no run was good for twice `every` and ten minutes,
    or of a schedule, since the last due time but one, ten minutes after the last.

    A run is good if it succeeded, or did so in part, and was neither a dry run nor one of items.
    """
    now = datetime.now(UTC)
    within = {each.name: _within(each, now) for each in sources if each.is_automatic}
    rows = await db.fetch(OVERDUE, list(within), list(within.values())) if within else []
    return [Overdue(row["name"], row["since"], row["last_id"] or 0) for row in rows]


def _within(source: Source, now: datetime) -> timedelta:
    """Return how long it may be since a source was good last."""
    if source.every is not None:
        return 2 * source.every + GRACE
    last = source.last_due(now - GRACE)
    return now - source.last_due(last - timedelta(microseconds=1))
