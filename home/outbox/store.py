"""Messages that are to be delivered: written in the transaction of what they tell of.

Each is delivered at least once; a duplicate has the same `uuid`. What does not get through is tried
again with longer and longer pauses, for a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from audit.database import Database, Record

AT_ONCE = 50
CLAIM_SECONDS = 60  # longer than delivering AT_ONCE takes: after a kill -9 others go on then
DEAD_AFTER = "1 day"
KEPT = "90 days"
FIRST_PAUSE, LONGEST_PAUSE = 10, 3600  # seconds
SHOWN = 100

PUT = """
    INSERT INTO outbox (channel, recipient, kind, matter, content)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (matter, channel, recipient) DO NOTHING
"""
CLAIM = f"""
    UPDATE outbox SET attempts = attempts + 1,
        claimed_until = now() + interval '{CLAIM_SECONDS} seconds'
    WHERE id IN (
        SELECT id FROM outbox
        WHERE channel = $1 AND sent_at IS NULL AND dead_at IS NULL AND next_at <= now()
          AND (claimed_until IS NULL OR claimed_until < now())
        ORDER BY next_at, id LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED
    )
    RETURNING id, uuid::text AS uuid, recipient, kind, content::text AS content, attempts
"""  # noqa: S608  constants only
SENT = """
    UPDATE outbox SET sent_at = now(), claimed_until = NULL, error = NULL, content = '{}'
    WHERE id = any($1)
"""
# The pause doubles, and is up to half as long again, so that not all come at once.
FAILED = f"""
    UPDATE outbox SET error = $2, claimed_until = NULL,
        dead_at = CASE WHEN $3 OR created_at < now() - interval '{DEAD_AFTER}' THEN now() END,
        next_at = now() + (1 + random() / 2)
            * least({FIRST_PAUSE} * 2 ^ least(attempts - 1, 20), {LONGEST_PAUSE}) * interval '1 s'
    WHERE id = $1
"""  # noqa: S608  constants only
DROP = "DELETE FROM outbox WHERE id = $1"
AGAIN = """
    UPDATE outbox SET dead_at = NULL, next_at = now(), created_at = now(), claimed_until = NULL
    WHERE id = $1 AND sent_at IS NULL RETURNING id
"""
PURGE = f"""
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE coalesce(sent_at, dead_at) < now() - interval '{KEPT}'
        LIMIT 1000)
    RETURNING id
"""  # noqa: S608  constants only
LIST = f"""
    SELECT id, channel, recipient, kind, created_at, next_at, attempts, error, sent_at, dead_at
    FROM outbox ORDER BY sent_at IS NOT NULL, dead_at IS NULL, id DESC LIMIT {SHOWN}
"""  # noqa: S608  constants only
COUNTS = """
    SELECT count(*) FILTER (WHERE dead_at IS NULL) AS waiting,
           count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
    FROM outbox WHERE sent_at IS NULL
"""


class Outgoing(NamedTuple):
    """A message to be delivered now."""

    id: int
    uuid: str
    recipient: str
    kind: str
    content: Mapping[str, Any]
    attempts: int


async def put(
    db: Database,
    channel: str,
    recipients: Iterable[str],
    kind: str,
    content: Mapping[str, Any],
    matter: str | None = None,
) -> None:
    """Store messages; joins the transaction that is open, so that they go with the change.

    Args:
        matter: what it is about: nobody is told twice of the same.
    """
    text = json.dumps(content)
    for recipient in recipients:
        await db.execute(PUT, channel, recipient, kind, matter, text)


async def claim(db: Database, channel: str) -> list[Outgoing]:
    """Return messages that are due; for a while no other process delivers them."""
    return [
        Outgoing(
            row["id"], row["uuid"], row["recipient"], row["kind"], json.loads(row["content"]),
            row["attempts"],
        )
        for row in await db.fetch(CLAIM, channel)
    ]  # fmt: skip


async def sent(db: Database, ids: Sequence[int]) -> None:
    """Note that messages were delivered."""
    await db.execute(SENT, ids)


async def drop(db: Database, message: Outgoing) -> None:
    """Remove a message that says nothing any more."""
    await db.execute(DROP, message.id)


async def failed(db: Database, message: Outgoing, error: str, *, for_good: bool = False) -> None:
    """Note that a message was not delivered, and when it is tried again, if it is."""
    await db.execute(FAILED, message.id, error[:300], for_good)


async def again(db: Database, id_: int) -> bool:
    """Have a message tried again now; return False where it was delivered, or there is none."""
    return await db.fetchval(AGAIN, id_) is not None


async def purge(db: Database) -> None:
    """Remove what was delivered, or died, three months ago."""
    while await db.fetch(PURGE):
        pass


async def newest(db: Database) -> list[Record]:
    """Return what is dead, then what waits, then what was delivered; the newest first."""
    return await db.fetch(LIST)


async def counts(db: Database) -> tuple[int, int]:
    """Return how many wait, and how many are dead."""
    row = await db.fetchrow(COUNTS)
    assert row is not None
    return row["waiting"], row["dead"]
