"""What runs beside the requests for the trail: sealing, and taking away what AUDIT_KEEP says.

With AUDIT_ARCHIVE old rows are moved there, else they are pruned; in steps, so that requests,
writers and the sealer come in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from audit import sealing
from audit.apps import Services
from audit.archived import archive_of
from audit.digests import SealKeys
from audit.jobs import Job
from audit.log import Logger
from audit.prune import IS_DUE, PrunedMeanwhile, prune_step
from audit.settings import AuditSettings
from audit.verify import AlreadyVerifying

HOUR = 3_600.0
BETWEEN_STEPS = 5.0  # seconds
CUT = "SELECT clock_timestamp() - $1::text::interval"
# A file is made where there is enough for it, or none was made for a month.
IS_WORTH_A_FILE = f"""
    SELECT NOT EXISTS (SELECT FROM audit_archives WHERE created_at > now() - interval '30 days')
           OR (SELECT coalesce(sum(row_count), 0) >= 1000000 OR count(*) >= 1000
               FROM audit_seals WHERE {IS_DUE})
    FROM (SELECT $1::timestamptz) AS given
"""  # noqa: S608  constants only

log = Logger("groundwork.audit")


def jobs(services: Services) -> list[Job]:
    """Return the jobs of the trail."""
    settings = services.settings_of(AuditSettings)
    found = sealing.jobs(services)
    if settings.audit_keep:
        is_archived = settings.audit_archive is not None
        run = _archiving(services) if is_archived else _pruning(services)
        name = "archive the trail" if is_archived else "prune the trail"
        found.append(Job(name, run, HOUR, at_once=True, longest_pause=HOUR))
    return found


def _archiving(services: Services) -> Callable[[], Awaitable[float | None]]:
    from audit.archive.moving import AlreadyArchiving, archive_step

    settings, archive = services.settings_of(AuditSettings), archive_of(services)
    assert archive is not None  # it is set
    keys = SealKeys.of(settings)

    async def run() -> float | None:
        before = await services.db.fetchval(CUT, settings.audit_keep)
        if not await services.db.fetchval(IS_WORTH_A_FILE, before):
            return None
        try:
            moved = await archive_step(archive, keys, before)
        except AlreadyArchiving:  # another process does it
            return None
        if moved is not None:
            log.info("trail_archived", rows=moved.rows, last_seal=moved.last_seal)
        return BETWEEN_STEPS if moved else None

    return run


def _pruning(services: Services) -> Callable[[], Awaitable[float | None]]:
    settings = services.settings_of(AuditSettings)
    keys = SealKeys.of(settings)

    async def run() -> float | None:
        before = await services.db.fetchval(CUT, settings.audit_keep)
        try:
            pruned = await prune_step(services.db, keys, before)
        except (AlreadyVerifying, PrunedMeanwhile):  # another process does it
            return None
        if pruned is not None:
            log.info("trail_pruned", rows=pruned.rows, last_seal=pruned.last_seal)
        return BETWEEN_STEPS if pruned else None

    return run
