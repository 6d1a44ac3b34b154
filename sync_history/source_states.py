"""How sources are doing: their last runs, their last success, and when they are due next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from audit.database import Database, Record
from sync_history.overdue import overdue_of
from sync_history.sources import Source

LAST = 30  # runs that are drawn
# «=» would let the planner look for the runs of a source among all, from the newest on.
LAST_RUNS = f"""
    SELECT run.* FROM unnest($1::text[]) AS name, LATERAL (
        SELECT id, source, status, duration_ms, items_synced, items_failed, needs_attention,
               dry_run, coalesce(completed_at, started_at, created_at) AS at
        FROM sync_history WHERE source >= name AND source <= name
        ORDER BY source DESC, id DESC LIMIT {LAST}
    ) AS run
    ORDER BY run.id
"""  # noqa: S608  constants only
LAST_SUCCESSES = """
    SELECT name, (
        SELECT completed_at FROM sync_history
        WHERE source >= name AND source <= name AND status = 'succeeded' AND NOT dry_run
        ORDER BY source DESC, id DESC LIMIT 1
    ) AS at
    FROM unnest($1::text[]) AS name
"""
WAITING = """
    SELECT source, id, retry_at FROM sync_history
    WHERE source = any($1) AND retry_at IS NOT NULL ORDER BY id
"""
IS_KNOWN = "SELECT EXISTS (SELECT FROM sync_history WHERE source = $1)"


@dataclass(frozen=True)
class SourceState:
    """A source, and how it is doing.

    Args:
        source: None where it has runs, but is not configured any more.
        runs: the last ones, the oldest first.
        due_at: when it begins by itself; None is by hand only.
        overdue_since: when it was good last, if that is too long ago.
        retry: the failed run that waits to be tried again, with `retry_at`.
    """

    name: str
    source: Source | None
    runs: Sequence[Record]
    last_success: datetime | None
    due_at: datetime | None
    overdue_since: datetime | None = None
    retry: Record | None = None

    @property
    def active(self) -> Record | None:
        """Return its run that is not over."""
        active = [run for run in self.runs if run["status"] in ("pending", "running")]
        return active[-1] if active else None


async def states_of(
    db: Database, sources: dict[str, Source], names: Sequence[str], *, starts: bool
) -> list[SourceState]:
    """Return how sources are doing.

    Args:
        sources: those that are configured.
        names: those that are asked for.
        starts: whether sources begin by themselves here.
    """
    now = datetime.now(UTC)
    runs = await db.fetch(LAST_RUNS, names)
    successes = {row["name"]: row["at"] for row in await db.fetch(LAST_SUCCESSES, names)}
    waiting = {row["source"]: row for row in await db.fetch(WAITING, names)}
    known = [sources[name] for name in names if name in sources]
    overdue = {each.name: each.since for each in await overdue_of(db, known)}
    return [
        SourceState(
            name,
            source := sources.get(name),
            [run for run in runs if run["source"] == name],
            successes[name],
            source.next_due(now) if starts and source and source.is_automatic else None,
            overdue.get(name),
            waiting.get(name),
        )
        for name in names
    ]


async def is_known(db: Database, name: str) -> bool:
    """Return whether a source has runs, be it configured or not."""
    known: bool = await db.fetchval(IS_KNOWN, name)
    return known
