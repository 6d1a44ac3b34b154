"""What a source keeps from run to run: where it has come to, committed with the data it stands for.

A process that was taken for dead may wake up, and commit late what it began in time. Versions let
nobody build on it unseen: of two who hold the same one, the second to save fails, and what it has
not committed is undone.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from audit.context import storable
from audit.database import Database, Record
from audit.record import record
from sync_history.errors import SyncFailed

LARGEST_STATE = 64 * 1024  # bytes of JSON

# Of the run's own: it may have been rolled back, so that its version says nothing.
SAVE = """
    INSERT INTO sync_states (source, state, version, run_id, updated_at)
    SELECT source, $3::jsonb, 1, id, clock_timestamp() FROM sync_history
    WHERE id = $1 AND claim = $2 AND status = 'running'
    ON CONFLICT (source) DO UPDATE SET
        state = excluded.state, version = sync_states.version + 1, run_id = excluded.run_id,
        updated_at = excluded.updated_at
    WHERE sync_states.version = $4 OR sync_states.run_id = excluded.run_id
    RETURNING version
"""
FIND = "SELECT state::text, version, run_id, updated_at FROM sync_states WHERE source = $1"
RESET = """
    INSERT INTO sync_states (source, state, version, run_id, updated_at)
    VALUES ($1, '{}', 1, NULL, clock_timestamp())
    ON CONFLICT (source) DO UPDATE SET
        state = '{}', version = sync_states.version + 1, run_id = NULL,
        updated_at = excluded.updated_at
"""


class Cursor:
    """The state of a source, as one run found it and goes on with it.

    Args:
        claim: of the process that runs it.
        state: as JSON; None where none has been kept.
        version: of that state.
    """

    def __init__(
        self, db: Database, run_id: int, claim: UUID, state: str | None, version: int | None
    ) -> None:
        self.db = db
        self.run_id = run_id
        self.claim = claim
        self.found = state
        self.version = version

    async def save(self, text: str) -> None:
        """Keep a state, given as JSON, in the transaction that is open, or at once.

        Raises:
            SyncFailed: the run was closed, or somebody else has written the state.
        """
        version = await self.db.fetchval(SAVE, self.run_id, self.claim, text, self.version)
        # One that was there when the run began and is not any more was taken away meanwhile.
        if version is None or (version == 1 and self.version is not None):
            raise SyncFailed(
                "This run was closed, or its state was changed by somebody else or reset, "
                "meanwhile. What it had not committed is undone. Start it again."
            )


def as_text(state: dict[str, Any]) -> str:
    """Return a state as JSON.

    Raises:
        TypeError: it is no dict, or has what JSON has not.
        ValueError: it is too large, or has what PostgreSQL cannot hold.
    """
    if not isinstance(state, dict):
        raise TypeError(f"a state is a dict, not {type(state).__name__}")
    text = json.dumps(state, allow_nan=False)
    kept = json.loads(text)
    if storable(kept) != kept:
        raise ValueError("a state has no NUL and no lone surrogate in its texts")
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    if size > LARGEST_STATE:
        raise ValueError(f"a state has at most {LARGEST_STATE:,} bytes as JSON, not {size:,}")
    return text


async def find(db: Database, source: str) -> Record | None:
    """Return state (as JSON), version, run_id and updated_at of a source, if it has kept any."""
    return await db.fetchrow(FIND, source)


async def reset(db: Database, source: str) -> None:
    """Let a source begin anew. A run that is active fails when it saves its state."""
    async with db.transaction():
        await db.execute(RESET, source)
        await record(db, "sync_history.reset_state", "sync_states", source)
