"""Lists of runs, the newest first: filtered, a page at a time, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

from audit.database import Database, Record
from sync_history.tables import Status

PAGE = 50
MOST_COUNTED = 1_000
# What can be chosen beside the states themselves.
ACTIVE, TO_LOOK_AT = "active", "to-look-at"
# A run that was good again has settled what came before it.
UNSETTLED = """
    needs_attention AND id > coalesce((
        SELECT max(good.id) FROM sync_history AS good
        WHERE good.source = run.source
          AND good.status = 'succeeded' AND NOT good.needs_attention AND NOT good.dry_run), 0)
"""
SHOWN = f"""
    id, source, status, trigger_type, triggered_by, started_at, completed_at, created_at,
    duration_ms, items_total, items_synced, items_failed, error_message, dry_run, force,
    ({UNSETTLED}) AS needs_attention
"""


@dataclass(frozen=True)
class Filters:
    """A choice of runs; what is None does not matter.

    Args:
        status: a Status, ACTIVE or TO_LOOK_AT.
        since: they ended on this day (UTC), or later.
    """

    source: str | None = None
    status: str | None = None
    dry_run: bool | None = None
    since: date | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], source: str | None = None) -> Filters:
        """Read them from an address; what makes no sense does not matter."""
        status, dry = query.get("status"), query.get("dry_run")
        return cls(
            source or query.get("source") or None,
            status if status in (ACTIVE, TO_LOOK_AT, *Status) else None,
            {"yes": True, "no": False}.get(dry or ""),
            _day(query.get("since", "")),
        )

    def query(self, **more: object) -> str:
        """Return them as they are written in an address."""
        dry_run = None if self.dry_run is None else ("no", "yes")[self.dry_run]
        found: dict[str, object] = {
            "source": self.source,
            "status": self.status,
            "dry_run": dry_run,
        }
        found |= {"since": self.since and self.since.isoformat(), **more}
        return urlencode({name: value for name, value in found.items() if value is not None})

    def conditions(self) -> tuple[list[str], list[Any]]:
        """Return conditions in SQL, of `sync_history AS run`, and their parameters."""
        conditions, values = [], list[Any]()
        if self.source is not None:
            values.append(self.source)
            conditions.append(f"source = ${len(values)}")
        if self.status == ACTIVE:
            conditions.append("status IN ('pending', 'running')")
        elif self.status == TO_LOOK_AT:
            conditions.append(UNSETTLED)
        elif self.status is not None:
            values.append(self.status)
            conditions.append(f"status = ${len(values)}")
        if self.dry_run is not None:
            conditions.append("dry_run" if self.dry_run else "NOT dry_run")
        if self.since is not None:
            values.append(datetime.combine(self.since, datetime.min.time(), UTC))
            conditions.append(f"completed_at >= ${len(values)}")
        return conditions, values


@dataclass(frozen=True)
class RunPage:
    """Runs of a list, and whether there are older ones."""

    runs: Sequence[Record]
    has_older: bool


async def page_of(db: Database, filters: Filters, before: int | None = None) -> RunPage:
    """Return a page of the list.

    Args:
        before: the id of the last run of the page before.
    """
    conditions, values = filters.conditions()
    if before is not None:
        values.append(before)
        conditions.append(f"id < ${len(values)}")
    sql = f"""
        SELECT page.*, users.email AS person
        FROM (SELECT {SHOWN} FROM sync_history AS run WHERE {_all(conditions)}
              ORDER BY id DESC LIMIT {PAGE + 1}) AS page
        LEFT JOIN users ON users.id = page.triggered_by
        ORDER BY page.id DESC
    """  # noqa: S608  constants only
    rows = await db.fetch(sql, *values)
    return RunPage(rows[:PAGE], len(rows) > PAGE)


async def count_of(db: Database, filters: Filters) -> int:
    """Return how many runs there are in the list, at most MOST_COUNTED + 1."""
    conditions, values = filters.conditions()
    sql = f"""
        SELECT count(*) FROM (
            SELECT FROM sync_history AS run WHERE {_all(conditions)} LIMIT {MOST_COUNTED + 1}
        ) AS counted
    """  # noqa: S608  constants only
    number: int = await db.fetchval(sql, *values)
    return number


def _all(conditions: Sequence[str]) -> str:
    return " AND ".join(conditions) or "true"


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year > 1 else None  # of which the first moment can be compared
