"""Sealing beside the requests: in each process, and the database decides who does it."""

from __future__ import annotations

import structlog

from audit.apps import Services
from audit.digests import SealKeys
from audit.jobs import Job
from audit.seals import Sealed, engine, seal
from audit.settings import AuditSettings
from audit.summary import count_sealed

log = structlog.get_logger("groundwork.audit")


def jobs(services: Services) -> list[Job]:
    """Return the job that seals, unless AUDIT_SEAL_INTERVAL is 0."""
    settings = services.settings_of(AuditSettings)
    interval = settings.audit_seal_interval
    keys = SealKeys.of(settings)

    async def run() -> None:
        done = await seal_when_due(keys, interval)
        await count_sealed(services.db)
        if done.seals:
            log.info("trail_sealed", seals=done.seals, rows=done.rows)

    return [Job("seal the trail", run, min(interval, 60))] if interval else []


async def seal_when_due(keys: SealKeys, interval: float, *, patience: float = 10) -> Sealed:
    """Seal if the last seal is older than so many seconds, whichever process made it."""
    fresh = """
        SELECT created_at > now() - make_interval(secs => $1)
        FROM audit_seals ORDER BY id DESC LIMIT 1
    """
    if [row[0] for row in await engine().fetch(fresh, interval)] == [True]:
        return Sealed()
    return await seal(keys, patience=patience)
