"""What there is to tell of sync runs."""

from __future__ import annotations

from collections.abc import Sequence

from audit.database import Database
from home.outbox.notices import Look, Notice
from home.services import Services
from sync_history.overdue import overdue_of
from sync_history.sources import sources

ATTENTION = """
    SELECT id, source, attention_reason FROM sync_history
    WHERE needs_attention AND completed_at > now() - interval '1 day' ORDER BY id
"""


def notices(services: Services) -> list[Look]:
    """Return what is looked for."""
    return [runs_to_look_at, overdue_sources]


async def runs_to_look_at(db: Database) -> Sequence[Notice]:
    """Tell of runs that a person should look at."""
    return [
        Notice(
            "sync.attention",
            f"run:{row['id']}",
            f"Sync {row['source']} needs a look",
            str(row["attention_reason"]),
            f"/sync/runs/{row['id']}",
        )
        for row in await db.fetch(ATTENTION)
    ]


async def overdue_sources(db: Database) -> Sequence[Notice]:
    """Tell of sources that are overdue; once, until one of their own runs is good again."""
    return [
        Notice(
            "sync.overdue",
            f"overdue:{name}:{last_id}",
            f"Sync {name} is overdue",
            f"No run has succeeded since {since:%Y-%m-%d %H:%M} UTC. Does anything start it?",
            f"/sync/{name}",
        )
        for name, since, last_id in await overdue_of(db, sources().values())
    ]
