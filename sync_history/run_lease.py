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
from audit.database import Record
from home.database.connection import ObservedConnection
from home.database.engine import Engine
from sync_history import retries
from sync_history.outcome import Outcome
from sync_history.reporting import Progress
from sync_history.run_log import RunLog
from sync_history.runs import RUNNING

CLAIM = """
    UPDATE sync_history SET status = 'running', claim = $2, holds_lock = $3
    WHERE id = $1 AND status = 'pending'
    RETURNING dry_run, force, retry_of,
        (SELECT state::text FROM sync_states AS kept WHERE kept.source = sync_history.source)
            AS state,
        (SELECT version FROM sync_states AS kept WHERE kept.source = sync_history.source)
            AS version
"""
BEAT = """
    UPDATE sync_history SET
        heartbeat_at = clock_timestamp(), items_total = $3, items_synced = $4, items_failed = $5,
        error_details = coalesce($6, error_details)
    WHERE id = $1 AND claim = $2 AND status = 'running'
    RETURNING cancel_requested_at IS NOT NULL AS cancelled
"""
IS_TRIED_AGAIN = f"$3::varchar = 'failed' AND {retries.IS_TRIED_AGAIN}"
END = f"""
    UPDATE sync_history SET
        status = $3::varchar, items_total = $4, items_synced = $5, items_failed = $6,
        error_details = $7,
        error_message = CASE WHEN {IS_TRIED_AGAIN} THEN {retries.message("$8::text")} ELSE $8 END,
        retry_at = CASE WHEN {IS_TRIED_AGAIN} THEN {retries.retry_at("$11")} END,
        needs_attention = $9 AND NOT ({IS_TRIED_AGAIN}),
        attention_reason = CASE WHEN NOT ({IS_TRIED_AGAIN}) THEN $10::text END
    WHERE id = $1 AND claim = $2 AND status = 'running'
    RETURNING id
"""  # noqa: S608  constants only
# Lines of a write whose answer was lost are there already, and are left out: $6 are known to be.
LOG = """
    INSERT INTO sync_log_lines (run, at, level, text)
    SELECT $1, line.at, line.level, line.text
    FROM unnest($3::timestamptz[], $4::text[], $5::text[]) WITH ORDINALITY
        AS line (at, level, text, n)
    WHERE EXISTS (
        SELECT FROM sync_history WHERE id = $1 AND claim = $2 AND status = 'running')
      AND line.n > (SELECT count(*) FROM sync_log_lines WHERE run = $1) - $6
    ORDER BY line.n
"""
# The end may have been committed although its answer was lost.
HAS_ENDED = f"""
    SELECT FROM sync_history
    WHERE id = $1 AND claim = $2 AND status = $3
      AND (error_message IS NOT DISTINCT FROM $4
           OR error_message = {retries.message("$4::text")})
"""  # noqa: S608  constants only
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
        self._connection: ObservedConnection | None = None
        self._written = ""  # details that are stored already

    async def claim(self) -> Record | None:
        """Turn it from pending to running: one process gets its options, all others None."""
        connection = await self._connected()
        holds_lock = self.db.settings.db_pooler == "none"
        try:
            async with connection.transaction():
                row: Record | None = await connection.fetchrow(
                    CLAIM, self.id, self.claim_id, holds_lock
                )
                return row
        except asyncpg.UniqueViolationError:  # a run that was not begun by `runs.start`
            return None

    async def beat(self, progress: Progress) -> bool:
        """Write progress, and that this process lives; return whether a person cancelled the run.

        Raises:
            LeaseLost: it is closed already.
            DatabaseUnavailable: try again.
        """
        details = json.dumps(progress.details) if progress.details else ""
        changed = details if details != self._written else None
        figures = (progress.total, progress.synced, progress.failed)
        connection = await self._connected()
        row = await connection.fetchrow(BEAT, self.id, self.claim_id, *figures, changed)
        if row is None:
            raise LeaseLost
        self._written = details
        return bool(row["cancelled"])

    async def write_log(self, log: RunLog, *, is_last: bool = False) -> None:
        """Store what the source has logged since the last time.

        Raises:
            DatabaseUnavailable: try again; nothing is lost, and nothing twice.
        """
        if lines := log.waiting(is_last=is_last):
            columns = ([*column] for column in zip(*lines, strict=True))
            values = (self.id, self.claim_id, *columns, log.stored)
            await (await self._connected()).execute(LOG, *values)
            log.forget(lines)

    async def earlier(self, source: str) -> list[int]:
        """Return how many items the source's last good runs synced, the newest first."""
        rows = await (await self._connected()).fetch(EARLIER, source, self.id)
        return [row["items_synced"] for row in rows]

    async def end(self, progress: Progress, outcome: Outcome) -> None:
        """Close the run. To be repeated until it succeeds: the second time changes nothing.

        Raises:
            LeaseLost: it is closed already.
            DatabaseUnavailable: try again.
        """
        details = progress.details
        values = (
            self.id,
            self.claim_id,
            outcome.status,
            progress.total,
            progress.synced,
            progress.failed,
            json.dumps(details) if details else None,
            outcome.message,
            outcome.attention is not None,
            outcome.attention,
            retries.FIRST_PAUSE_SECONDS,
        )
        try:
            ended = await self._write_end(values)
        except asyncpg.ForeignKeyViolationError:  # who started it was deleted meanwhile
            actor = current_actor()
            assert actor is not None
            with acting_as(actor._replace(user_id=None)):
                ended = await self._write_end(values)
        if not ended and not await self._has_ended(outcome):
            raise LeaseLost

    async def _write_end(self, values: tuple[Any, ...]) -> bool:
        connection = await self._connected()
        async with connection.transaction():  # which tells the trail who acts
            return bool(await connection.fetch(END, *values))

    async def _has_ended(self, outcome: Outcome) -> bool:
        connection = await self._connected()
        ended = (self.id, self.claim_id, outcome.status, outcome.message)
        return await connection.fetchrow(HAS_ENDED, *ended) is not None

    def close(self) -> None:
        """Give the connection up, and with it the lock."""
        if self._connection is not None:
            self._connection.terminate()

    async def _connected(self) -> ObservedConnection:
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
