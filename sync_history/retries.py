"""Runs that failed and are tried again by themselves: when, by whom, and until when.

A failed run that waits has `retry_at`. Whatever begins another run of the source takes it away: the
retry itself, the next due time, or a person.
"""

from __future__ import annotations

from audit.database import Connection, Database
from sync_history.tables import SyncRun

# The pause grows fourfold with each attempt: 1, 4, 16, 60 minutes, and a fifth more or less, so
# that what failed together is not tried together.
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3_600.0
# So late, nobody is there to try it: a person should know.
GIVEN_UP_AFTER_SECONDS = 3_600.0

START_AGAIN, BY_ITSELF = "Start it again.", "It is tried again by itself."
ACTIVE = "SELECT id FROM sync_history WHERE source = $1 AND status IN ('pending', 'running')"
# Of a run that is about to be closed as failed.
IS_TRIED_AGAIN = "attempt < attempts AND cancel_requested_at IS NULL"
# A time that is further away than any pause is one of a clock that has been set back since.
IS_DUE = f"""
    SELECT max(id) FROM sync_history
    WHERE source = $1 AND retry_at IS NOT NULL AND NOT EXISTS ({ACTIVE}) AND (
        retry_at <= statement_timestamp()
        OR retry_at > statement_timestamp() + interval '{2 * LONGEST_PAUSE_SECONDS} seconds')
"""  # noqa: S608  constants only
START = f"""
    WITH failed AS (
        UPDATE sync_history SET retry_at = NULL
        WHERE id = ({IS_DUE}) AND retry_at IS NOT NULL RETURNING *
    )
    INSERT INTO sync_history
        (source, trigger_type, force, retry_of, attempt, attempts, attempt_of)
    SELECT source, 'automatic', force, retry_of, attempt + 1, attempts, coalesce(attempt_of, id)
    FROM failed
    RETURNING id
"""  # noqa: S608  constants only
SUPERSEDE = "UPDATE sync_history SET retry_at = NULL WHERE source = $1 AND retry_at IS NOT NULL"
CANCEL = (
    "UPDATE sync_history SET retry_at = NULL WHERE id = $1 AND retry_at IS NOT NULL RETURNING id"
)
NEXT_ATTEMPT = """
    SELECT id FROM sync_history
    WHERE source = $1 AND id > $2 AND attempt_of = $3 AND attempt = $4 ORDER BY id LIMIT 1
"""
GIVE_UP = """
    UPDATE sync_history AS run SET
        retry_at = NULL, needs_attention = true,
        attention_reason = 'It failed, and nothing tried it again.'
    WHERE retry_at < clock_timestamp() - make_interval(secs => $1) AND NOT EXISTS (
        SELECT FROM sync_history AS other
        WHERE other.source = run.source AND other.status IN ('pending', 'running'))
    RETURNING id, source
"""


def retry_at(first_pause: str) -> str:
    """Return in SQL when a run that fails now is tried again.

    Args:
        first_pause: the parameter that has FIRST_PAUSE_SECONDS, such as "$4".
    """
    pause = f"least({first_pause}::float8 * power(4, attempt - 1), {LONGEST_PAUSE_SECONDS})"
    return f"clock_timestamp() + make_interval(secs => {pause} * (0.8 + 0.4 * random()))"


def message(text: str) -> str:
    """Return in SQL what a run that is tried again says in place of a text, given in SQL."""
    return f"replace({text}, '{START_AGAIN}', '{BY_ITSELF}')"


async def is_due(db: Database, source: str) -> bool:
    """Return whether a failed run of a source is to be tried again now."""
    return await db.fetchval(IS_DUE, source) is not None


async def start(connection: Connection, source: str) -> int | None:
    """Make the pending run that tries a failed one again; None if somebody else has done so."""
    id_: int | None = await connection.fetchval(START, source)
    return id_


async def next_attempt(db: Database, run: SyncRun) -> int | None:
    """Return the run that tried a failed one again; None where none did."""
    id_: int | None = await db.fetchval(
        NEXT_ATTEMPT, run.source, run.id, run.attempt_of or run.id, run.attempt + 1
    )
    return id_


async def give_up(db: Database) -> list[tuple[int, str]]:
    """Mark the runs that nobody tried again in time; return their ids and sources."""
    rows = await db.fetch(GIVE_UP, GIVEN_UP_AFTER_SECONDS)
    return [(row["id"], row["source"]) for row in rows]
