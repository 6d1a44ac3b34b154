"""Sealing beside the requests: in each process, and the database decides who does it."""

from __future__ import annotations

from datetime import timedelta

from audit.apps import Services
from audit.database import Database
from audit.digests import SealKeys
from audit.errors import GroundworkError
from audit.jobs import Job
from audit.log import Logger
from audit.seals import DRAWN, Sealed, last_seal, seal
from audit.settings import AuditSettings
from audit.summary import count_sealed

log = Logger("groundwork.audit")

LATE = 3  # times AUDIT_SEAL_INTERVAL: rows that have waited for so long are not being sealed
MAX_SECONDS = 10**12  # Python adds up no more
# Moments are compared with the database's clock, by the database: some are beyond Python's.
STANDING = f"""
    WITH drawn AS MATERIALIZED ({DRAWN}),
         last AS MATERIALIZED (SELECT * FROM audit_seals ORDER BY id DESC LIMIT 1)
    SELECT last.id AS seal,
           last.created_at > clock_timestamp() + interval '1 minute' AS seal_is_ahead,
           (SELECT min(id) FROM audit_logs WHERE id > drawn.id) AS row_by_hand,
           (SELECT created_at > clock_timestamp() + interval '1 minute' FROM audit_logs
            WHERE id <= drawn.id ORDER BY id DESC LIMIT 1) AS row_is_ahead,
           (SELECT CASE WHEN isfinite(created_at)
                        THEN extract(epoch FROM clock_timestamp() - created_at)::bigint END
            FROM audit_logs WHERE id > coalesce(last.last_id, 0) AND id <= drawn.id
            ORDER BY id LIMIT 1) AS unsealed_seconds
    FROM drawn LEFT JOIN last ON true
"""  # noqa: S608  constants only


IS_FRESH = """
    SELECT $1::timestamptz BETWEEN now() - make_interval(secs => $2) AND now() + interval '1 minute'
"""


class Waiting:
    """The wait of the oldest row for a seal, as this process last saw it."""

    seconds = 0


waiting = Waiting()


class NotSealed(GroundworkError):
    """The trail is not being sealed as it should be."""


def jobs(services: Services) -> list[Job]:
    """Return the job that seals, unless AUDIT_SEAL_INTERVAL is 0."""
    settings = services.settings_of(AuditSettings)
    interval = settings.audit_seal_interval
    keys = SealKeys.of(settings)

    async def run() -> None:
        found = await concerns(services.db)  # another seal would cover up what the last one is
        done = await seal_when_due(services.db, keys, interval)
        await count_sealed(services.db)
        if done.seals:
            log.info("trail_sealed", seals=done.seals, rows=done.rows)
        found += await concerns(services.db, interval)
        if found:
            raise NotSealed("; ".join(dict.fromkeys(found)))

    return [Job("seal the trail", run, min(interval, 60))] if interval else []


async def seal_when_due(
    db: Database, keys: SealKeys, interval: float, *, patience: float = 10
) -> Sealed:
    """Seal if the last seal is older than so many seconds, whichever process made it.

    One from the future says nothing: the clock was ahead, or somebody forged it.

    Raises:
        As `seal`, also where it is not due yet.
    """
    last = await last_seal(db, keys)
    if last is not None and await db.fetchval(IS_FRESH, last["created_at"], interval):
        return Sealed()
    return await seal(db, keys, patience=patience)


async def concerns(db: Database, interval: float = 0) -> list[str]:
    """Return what keeps the trail from being sealed, or what is strange about it, in sentences.

    Args:
        interval: AUDIT_SEAL_INTERVAL in seconds; with 0 nobody looks how long rows have waited.
    """
    row = await db.fetchrow(STANDING)
    assert row is not None  # whatever is joined
    waiting.seconds = row["unsealed_seconds"] or 0
    found = []
    if row["seal_is_ahead"]:
        found.append(f"seal {row['seal']} is from the future: a clock was ahead, or it was forged")
    if row["row_by_hand"] is not None:
        found.append(
            f"row {row['row_by_hand']} has an id that was never drawn: it was inserted by hand, "
            "and neither it nor later ones of that kind are sealed"
        )
    if row["row_is_ahead"]:
        found.append("the newest row is from the future: a clock is ahead")
    if interval and waiting.seconds > LATE * interval:
        age = timedelta(seconds=min(waiting.seconds, MAX_SECONDS))
        found.append(f"rows have waited for a seal for {age}")
    return found
