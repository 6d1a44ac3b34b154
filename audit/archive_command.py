"""`piccolo audit archive`: move old rows to AUDIT_ARCHIVE."""

from __future__ import annotations

from audit.apps import Services
from audit.archived import archive_of
from audit.cli import CommandError, WrongOption, command, past
from audit.digests import SealKeys
from audit.progress import progress
from audit.prune import due
from audit.settings import AuditSettings

KEEP = "SELECT clock_timestamp() - $1::text::interval"


@command
async def archive(services: Services, before: str = "", yes: bool = False) -> None:
    """Move rows that are older than AUDIT_KEEP to AUDIT_ARCHIVE, in whole seals, oldest first. They
    stay readable and provable. Without --yes it only says what would go. A file is read again and
    verified before its rows leave the table; what an interruption leaves, the next run cleans up.

    :param before: instead of AUDIT_KEEP: rows before this date or time, as 2025-01-31; UTC
    :param yes: move them, instead of saying what would go

    """
    settings = services.settings_of(AuditSettings)
    if (place := archive_of(services)) is None:
        raise CommandError("set AUDIT_ARCHIVE to a folder, or to s3://bucket/prefix")
    if not before and not settings.audit_keep:
        raise WrongOption("set AUDIT_KEEP, such as 13 months, or give --before")
    if before:
        when = await past("before", before, services.db)
    else:
        when = await services.db.fetchval(KEEP, settings.audit_keep)
    if (going := await due(services.db, when)) is None:
        print("nothing to archive: no seal covers only rows as old as that")
        return
    what = f"{going.rows} rows (up to id {going.last_id}), all before {when:%Y-%m-%d %H:%M} UTC"
    if not yes:
        print(f"would move {what} to {place.store.root}; do it with --yes")
        return
    from audit.archive.moving import archive_step

    rows = files = 0
    with progress("archiving", 2 * going.rows) as advance:
        while moved := await archive_step(place, SealKeys.of(settings), when, advance):
            rows, files = rows + moved.rows, files + 1
    print(
        f"moved {rows} rows to {place.store.root}, in {files} {'file' if files == 1 else 'files'}"
    )
