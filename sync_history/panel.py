"""Sync runs on the overview page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from audit.database import Database, Record
from home.pages.charts import Series
from home.pages.panels import Figure, Need, Panel, PanelSource, Urgency, charted, last_days
from home.services import Services
from sync_history.overdue import overdue_of
from sync_history.run_lists import ACTIVE, TO_LOOK_AT, UNSETTLED, Filters
from sync_history.sources import sources
from sync_history.tables import ENDS

DAILY = """
    SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, status, count(*) AS runs
    FROM sync_history WHERE completed_at >= $1 GROUP BY 1, 2
"""
ATTENTION = f"SELECT count(*) FROM sync_history AS run WHERE {UNSETTLED}"  # noqa: S608  constants only
RUNNING = "SELECT count(*) FROM sync_history WHERE status IN ('pending', 'running')"
DURATIONS = """
    SELECT source, percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS usual,
           (array_agg(duration_ms ORDER BY id DESC))[1] AS last, max(id) AS id
    FROM sync_history
    WHERE status IN ('succeeded', 'partial') AND completed_at >= $1 AND duration_ms IS NOT NULL
    GROUP BY source ORDER BY source
"""
COLOURS = {"succeeded": "good", "partial": "warn", "failed": "bad", "cancelled": "soft"}


def panels(services: Services) -> list[PanelSource]:
    """Return what this app shows on the overview."""
    return [sync_panel]


async def sync_panel(db: Database) -> Panel:
    """Show outcomes by day, durations, and what a person should look at."""
    days = last_days()
    since = datetime.combine(days[0], datetime.min.time(), UTC)
    found = {(row["day"], row["status"]): row["runs"] for row in await db.fetch(DAILY, since)}
    series = [Series(end, [found.get((day, end), 0) for day in days], COLOURS[end]) for end in ENDS]
    panel = charted("Sync runs", days, series, [_runs(end, days[0]) for end in ENDS])
    number: int = await db.fetchval(ATTENTION)
    look = "1 sync run needs a look." if number == 1 else f"{number:,} sync runs need a look."
    figures = [
        Figure("runs to look at", f"{number:,}", _runs(TO_LOOK_AT), needs_attention=number > 0),
        Figure("active runs", f"{await db.fetchval(RUNNING):,}", _runs(ACTIVE)),
        *panel.figures,
        *[_duration(row) for row in await db.fetch(DURATIONS, since)],
    ]
    needs = [Need(look, _runs(TO_LOOK_AT))] if number else []
    needs += [
        Need(f"Sync {each.name} is overdue.", f"/sync/{each.name}", Urgency.TODAY)
        for each in await overdue_of(db, sources().values())
    ]
    return replace(panel, figures=figures, needs=needs)


def _runs(status: str, since: date | None = None) -> str:
    """Return the list of the runs of a state."""
    return f"/sync?{Filters(status=status, since=since).query()}#runs"


def _duration(row: Record) -> Figure:
    last, usual = row["last"] / 1000, row["usual"] / 1000
    return Figure(
        f"{row['source']} took",
        f"{last:,.1f} s (usually {usual:,.1f})",
        f"/sync/runs/{row['id']}",
    )
