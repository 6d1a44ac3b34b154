"""The trail at a glance: how often what happened, day by day, without reading all of it again.

Sealed rows are settled, so they are counted once (`count_sealed`); newer ones are counted anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from audit.database import Database

CHANGES = ("insert", "update", "delete", "truncate")

# «COUNT» in ASCII: two who count at once would count twice.
COUNTING_LOCK = 0x434F554E54
COUNT_SEALED = """
    WITH bounds AS (
        SELECT (SELECT coalesce(max(last_id), 0) FROM audit_daily_counts) AS first,
               (SELECT coalesce(max(last_id), 0) FROM audit_seals) AS last
    )
    INSERT INTO audit_daily_counts AS counted (day, action, events, last_id)
    SELECT (created_at AT TIME ZONE 'UTC')::date, action, count(*), max(bounds.last)
    FROM audit_logs, bounds
    WHERE id > bounds.first AND id <= bounds.last
    GROUP BY 1, 2
    ON CONFLICT (day, action) DO UPDATE
        SET events = counted.events + excluded.events, last_id = excluded.last_id
"""
DAILY = """
    SELECT day, action, sum(events)::bigint AS events
    FROM (
        SELECT day, action, events FROM audit_daily_counts WHERE day >= $1
        UNION ALL
        SELECT (created_at AT TIME ZONE 'UTC')::date, action, count(*)
        FROM audit_logs
        WHERE id > $2 AND created_at >= $1
        GROUP BY 1, 2
    ) AS old_and_new
    GROUP BY day, action
"""
# Asked for by itself: a planner that knows it reads just the rows behind it.
COUNTED = "SELECT coalesce(max(last_id), 0) AS id FROM audit_daily_counts"
# In the order in which they came, so that a new one changes nothing about the others.
AUDITED = """
    SELECT relname::text AS name FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgname = 'audit_insert' AND relnamespace = quote_ident(current_schema())::regnamespace
    ORDER BY tgrelid
"""
VERIFIED = """
    SELECT created_at, details -> 'intact' = 'true' AS intact
    FROM audit_logs WHERE action = 'audit.verify'
    ORDER BY created_at DESC LIMIT 1
"""


@dataclass(frozen=True)
class DailyCounts:
    """Events for each of some days (UTC), oldest first, by action."""

    days: Sequence[date]
    by_action: dict[str, dict[date, int]]

    def series(self, *actions: str) -> list[int]:
        """Return one number for each day."""
        return [
            sum(self.by_action.get(action, {}).get(day, 0) for action in actions)
            for day in self.days
        ]

    def tables(self) -> list[str]:
        """Return tables whose rows changed, in alphabetical order."""
        pairs = (action.rpartition(".") for action in self.by_action)
        return sorted({table for table, _, change in pairs if table and change in CHANGES})

    def changes(self, table: str) -> list[int]:
        """Return what happened to rows of a table, one number for each day.

        Exports and the like are among them, as in the list of the table.
        """
        return self.series(*(each for each in self.by_action if each.startswith(f"{table}.")))


@dataclass(frozen=True)
class State:
    """The last times of sealing and verifying; None is never."""

    last_seal: datetime | None
    last_verified: datetime | None
    intact: bool | None


async def daily_counts(db: Database, days: Sequence[date]) -> DailyCounts:
    """Count events on the days given."""
    found: dict[str, dict[date, int]] = defaultdict(dict)
    counted = await db.fetchval(COUNTED)
    for row in await db.fetch(DAILY, days[0], counted):
        found[row["action"]][row["day"]] = row["events"]
    return DailyCounts(days, dict(found))


async def audited_tables(db: Database) -> list[str]:
    """Return the tables on the trail, the oldest first."""
    return [row["name"] for row in await db.fetch(AUDITED)]


async def state(db: Database) -> State:
    """Return the time of the newest seal, and what the newest verification found."""
    sealed = await db.fetchval("SELECT max(created_at) FROM audit_seals")
    row = await db.fetchrow(VERIFIED)
    return State(sealed, row["created_at"], row["intact"]) if row else State(sealed, None, None)


async def count_sealed(db: Database) -> None:
    """Add what was sealed since the last time to the daily counts."""
    async with db.transaction():
        if await db.fetchval("SELECT pg_try_advisory_xact_lock($1)", COUNTING_LOCK):
            await db.execute(COUNT_SEALED)
