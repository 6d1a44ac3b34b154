"""Removing files of the archive whose rows are all older than a date; each removal is signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

from audit.archive.placing import ARCHIVE_LOCK
from audit.archive.reading import Archive
from audit.database import Queries, Record
from audit.digests import SealKeys
from audit.prune import MARK, NotAsSealed, Pruned, sign
from audit.record import record
from audit.removals import ALLOW
from audit.seals import SEALING_LOCK

# Oldest first, up to the first file that has to stay: what is left is one piece.
DUE = """
    SELECT id, name, first_seal, last_seal, first_id, last_id, row_count FROM audit_archives
    WHERE last_seal < coalesce(
        (SELECT min(last_seal) FROM audit_archives WHERE newest_at >= $1), 9223372036854775807)
    ORDER BY first_seal
"""
DIGEST = "SELECT digest FROM audit_seals WHERE id = $1"


async def due_files(db: Queries, before: datetime) -> list[Record]:
    """Return the files that hold only what is older than a moment."""
    return await db.fetch(DUE, before)


def pruned(files: Sequence[Record]) -> Pruned:
    """Return what files hold, at least one."""
    first, last = files[0], files[-1]
    rows = sum(file["row_count"] for file in files)
    return Pruned(first["first_seal"], last["last_seal"], first["first_id"], last["last_id"], rows)


async def prune_files(
    archive: Archive, keys: SealKeys, before: datetime, progress: Callable[[int], None]
) -> Pruned | None:
    """Remove them, one after the other. What was removed is deleted once that is certain; who is
    killed before that leaves a file that the next run of `piccolo audit archive` removes."""
    files = await due_files(archive.db, before)
    for file in files:
        await _remove(archive, keys, file, before)
        await asyncio.to_thread(archive.store.delete, file["name"])
        progress(file["row_count"])
    return pruned(files) if files else None


async def _remove(archive: Archive, keys: SealKeys, file: Record, before: datetime) -> None:
    db, step = archive.db, pruned([file])
    async with db.transaction():
        await db.fetchval("SELECT pg_advisory_xact_lock($1)", ARCHIVE_LOCK)
        await db.fetchval("SELECT pg_advisory_xact_lock($1)", SEALING_LOCK)
        await db.fetchval(ALLOW)
        removed = await db.execute("DELETE FROM audit_archives WHERE id = $1", file["id"])
        marked = await db.execute(MARK, step.first_seal, step.last_seal)
        if (removed, marked) != ("DELETE 1", f"UPDATE {step.last_seal - step.first_seal + 1}"):
            raise NotAsSealed(
                "the archive was changed meanwhile, maybe by another prune: try again"
            )
        details = {**asdict(step), "before": before.isoformat(), "file": file["name"]}
        await record(db, "audit.prune", "audit_logs", details=details)
        digest = await db.fetchval(DIGEST, step.last_seal)
        await sign(db, keys, "prune", step, f"before {before.isoformat()}", digest)
