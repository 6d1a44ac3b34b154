"""The row of one run while it runs, on a connection of its own: the source's rollback spares it.

Every write names the run, the claim of this process, and the state running. Where no row answers,
somebody else has closed the run, and this process has no say in it any more.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import asyncpg

from audit.context import acting_as, current_actor
from home.database.engine import Engine
from sync_history.outcome import Outcome
from sync_history.runs import RUNNING
from sync_history.sources import Run

CLAIM = """
    UPDATE sync_history SET status = 'running', claim = $2, holds_lock = $3
    WHERE id = $1 AND status = 'pending'
    RETURNING dry_run, force
"""
BEAT = """
    UPDATE sync_history SET
        heartbeat_at = clock_timestamp(), items_total = $3, items_synced = $4, items_failed = $5,
        error_details = coalesce($6, error_details)
    WHERE id = $1 AND claim = $2 AND status = 'running'
    RETURNING cancel_requested_at IS NOT NULL AS cancelled
"""
END = """
    UPDATE sync_history SET
        status = $3, items_total = $4, items_synced = $5, items_failed = $6, error_details = $7,
        error_message = $8, needs_attention = $9, attention_reason = $10
    WHERE id = $1 AND claim = $2 AND status = 'running'
    RETURNING id
"""
EARLIER = """
    SELECT items_synced FROM sync_history
    WHERE source = $1 AND status IN ('succeeded', 'partial') AND NOT dry_run AND id < $2
    ORDER BY id DESC LIMIT 5
"""


class LeaseLost(Exception):
    """Somebody else closed the run: it was taken for dead."""


class RunLease:
    """Claims a run, keeps it alive and ends it."""

    def __init__(self, db: Engine, id: int) -> None:
        self.db = db
        self.id = id
        self.claim_id = uuid4()
        self._connection: Any = None
        self._written = ""  # details that are stored already

    async def claim(self) -> Any | None:
        """From pending to running: one process succeeds, and the others get None."""
        connection = await self._connected()
        holds_lock = self.db.settings.db_pooler == "none"
        try:
            async with connection.transaction():
                return await connection.fetchrow(CLAIM, self.id, self.claim_id, holds_lock)
        except asyncpg.UniqueViolationError:  # a run that was not begun by `runs.start`
            return None

    async def beat(self, run: Run) -> bool:
        """Write progress, and that this process lives; returns whether a person cancelled the run.

        Raises:
            LeaseLost: it is closed already.
            DatabaseUnavailable: try again.
        """
        details = json.dumps(run.details()) if run.failures or run.notes else ""
        changed = details if details != self._written else None
        figures = (run.items_total, run.items_synced, run.items_failed)
        connection = await self._connected()
        row = await connection.fetchrow(BEAT, self.id, self.claim_id, *figures, changed)
        if row is None:
            raise LeaseLost
        self._written = details
        return bool(row["cancelled"])

    async def earlier(self, run: Run) -> list[int]:
        """How many items the source's last good runs synced, the newest first."""
        rows = await (await self._connected()).fetch(EARLIER, run.source, self.id)
        return [row["items_synced"] for row in rows]

    async def end(self, run: Run, outcome: Outcome) -> None:
        """Close the run.

        Raises:
            LeaseLost: it is closed already.
            DatabaseUnavailable: try again.
        """
        details = run.details()
        values = (
            self.id,
            self.claim_id,
            outcome.status,
            run.items_total,
            run.items_synced,
            run.items_failed,
            json.dumps(details) if details else None,
            outcome.message,
            outcome.attention is not None,
            outcome.attention,
        )
        try:
            ended = await self._write_end(values)
        except asyncpg.ForeignKeyViolationError:  # who started it was deleted meanwhile
            actor = current_actor()
            assert actor is not None
            with acting_as(actor._replace(user_id=None)):
                ended = await self._write_end(values)
        if not ended:
            raise LeaseLost

    async def _write_end(self, values: tuple[Any, ...]) -> bool:
        connection = await self._connected()
        async with connection.transaction():  # which tells the trail who acts
            return bool(await connection.fetch(END, *values))

    def close(self) -> None:
        """Give the connection up, and with it the lock."""
        if self._connection is not None:
            self._connection.terminate()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            seconds = self.db.settings.db_command_timeout_ms / 1000
            self._connection = await self.db.get_new_connection(
                command_timeout=seconds, server_settings={"application_name": "groundwork sync"}
            )
            if self.db.settings.db_pooler == "none":
                # False only while a lost connection of this very run still holds it.
                await self._connection.fetchval(
                    "SELECT pg_try_advisory_lock($1, $2)", RUNNING, self.id
                )
        return self._connection
