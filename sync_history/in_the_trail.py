"""Sync runs in the trail: what rows about them say, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.database import Queries
from audit.ids import id_of
from audit.sentences import Words

NAMES = """
    SELECT id::text AS key, 'run ' || id || ' of ' || source AS name
    FROM sync_history WHERE id = any($1::text[]::integer[])
"""


async def names(db: Queries, keys: Sequence[str]) -> Mapping[str, str]:
    """Return the names of runs by the keys of their rows."""
    ids = [key for key in keys if id_of(key, 2**31 - 1) is not None]
    return {row["key"]: row["name"] for row in await db.fetch(NAMES, ids)}


WORDS = Words(
    phrases={"sync_history.insert": "asked for {}"},
    links={"sync_history": "/sync/runs/{}"},
    names={"sync_history": names},
)
