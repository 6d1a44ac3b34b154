"""What there is to tell of sync runs."""

from __future__ import annotations

from collections.abc import Sequence

from audit.database import Database
from home.outbox.notices import Look, Notice
from home.services import Services

ATTENTION = """
    SELECT id, source, attention_reason FROM sync_history
    WHERE needs_attention AND completed_at > now() - interval '1 day' ORDER BY id
"""


def notices(services: Services) -> list[Look]:
    """Return what is looked for."""
    return [runs_to_look_at]


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
