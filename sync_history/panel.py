"""Sync runs on the overview page."""

from __future__ import annotations

from datetime import UTC, datetime

from audit.database import Database, Record
from home.pages.charts import bars
from home.pages.overview import Figure, Panel, PanelSource, last_days
from home.services import Services
from sync_history.tables import ENDS

RUNS = "/admin/#/sync_history"
DAILY = """
    SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, status, count(*) AS runs
    FROM sync_history WHERE completed_at >= $1 GROUP BY 1, 2
"""
# A run that was good again has settled what came before it.
ATTENTION = """
    SELECT count(*) AS runs FROM sync_history AS run
    WHERE needs_attention AND NOT EXISTS (
        SELECT FROM sync_history AS later
        WHERE later.source = run.source AND later.id > run.id
          AND later.status = 'succeeded' AND NOT later.needs_attention AND NOT later.dry_run)
"""
DURATIONS = """
    SELECT source, percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS usual,
           (array_agg(duration_ms ORDER BY id DESC))[1] AS last, max(id) AS id
    FROM sync_history WHERE status IN ('succeeded', 'partial') AND completed_at >= $1
    GROUP BY source ORDER BY source
"""


def panels(services: Services) -> list[PanelSource]:
    """Return what this app shows on the overview."""
    return [sync_panel]


async def sync_panel(db: Database) -> Panel:
    """Show outcomes by day, durations, and what a person should look at."""
    days = last_days()
    since = datetime.combine(days[0], datetime.min.time(), UTC)
    found = {(row["day"], row["status"]): row["runs"] for row in await db.fetch(DAILY, since)}
    series = {str(end): [found.get((day, end), 0) for day in days] for end in ENDS}
    words = ", ".join(f"{end} {sum(values)}" for end, values in series.items())
    return Panel(
        f"Sync runs, last {len(days)} days",
        [
            await _attention(db),
            await _running(db),
            *[
                Figure(f"{end} runs", f"{sum(values):,}", f"{RUNS}?status={end}")
                for end, values in series.items()
            ],
            *[_duration(row) for row in await db.fetch(DURATIONS, since)],
        ],
        bars(days, series),
        f"Sync runs: {words}.",
    )


async def _attention(db: Database) -> Figure:
    number: int = await db.fetchval(ATTENTION)
    return Figure(
        "runs to look at",
        str(number),
        f"{RUNS}?needs_attention=true",
        needs_attention=number > 0,
    )


async def _running(db: Database) -> Figure:
    number = await db.fetchval("SELECT count(*) FROM sync_history WHERE status = 'running'")
    return Figure("active runs", str(number), f"{RUNS}?status=running")


def _duration(row: Record) -> Figure:
    last, usual = row["last"] / 1000, row["usual"] / 1000
    return Figure(
        f"{row['source']} took",
        f"{last:,.1f} s (usually {usual:,.1f})",
        f"{RUNS}/{row['id']}",
    )
