"""Removing old rows: whole seals, and each removal is signed, so that the rest stays verifiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Self

from audit.database import Database, Record
from audit.digests import Seal, SealKeys
from audit.errors import GroundworkError
from audit.record import record
from audit.removals import ALLOW, NOW, Removal, check_owner, store, whoever_acts
from audit.seals import SEALING_LOCK
from audit.summary import count_sealed
from audit.verify import verify

if TYPE_CHECKING:
    from audit.archive.reading import Archive

LOCK = 0x5052554E45  # «PRUNE» in ASCII: held while a step is verified
SEALS_AT_ONCE = 10  # up to 100,000 rows: seconds, and the sealer can do its work in between

# Seals whose rows are all older than $1: those before the one that holds the first that is not.
IS_DUE = """
    pruned_at IS NULL AND archived_at IS NULL AND last_id < coalesce(
        (SELECT min(id) FROM audit_logs WHERE created_at >= $1), 9223372036854775807)
"""
DUE = f"""
    SELECT {", ".join(Seal.__dataclass_fields__)}, digest FROM audit_seals
    WHERE {IS_DUE} ORDER BY id
"""  # noqa: S608  constants only
DELETE = "DELETE FROM audit_logs WHERE id BETWEEN $1 AND $2"
MARK = """
    UPDATE audit_seals SET pruned_at = clock_timestamp(), leaves = NULL
    WHERE id BETWEEN $1 AND $2 AND pruned_at IS NULL
"""


class NotAsSealed(GroundworkError):
    """These rows are not what was sealed; nothing was removed."""


class PrunedMeanwhile(NotAsSealed):
    """Rows were removed meanwhile, maybe by another prune: try again."""


@dataclass(frozen=True)
class Pruned:
    """Rows to remove, or removed: all up to `last_id`, under these seals."""

    first_seal: int
    last_seal: int
    first_id: int
    last_id: int
    rows: int

    @classmethod
    def of(cls, seals: Sequence[Record]) -> Self:
        """Make it from rows of DUE, at least one."""
        first, last = seals[0], seals[-1]
        rows = sum(seal["row_count"] for seal in seals)
        return cls(first["id"], last["id"], first["first_id"], last["last_id"], rows)


async def due(db: Database, before: datetime, archive: Archive | None = None) -> Pruned | None:
    """Return what is older than a moment, as far as it is sealed; None is nothing."""
    seals = await db.fetch(DUE, before)
    archived = await archive.prunable(before) if archive else None
    return _both(archived, Pruned.of(seals) if seals else None)


async def prune_step(db: Database, keys: SealKeys, before: datetime) -> Pruned | None:
    """Remove the oldest rows under at most ten seals, once these are verified; None is nothing.

    Raises:
        AlreadyVerifying, PrunedMeanwhile: another process does it.
        NotAsSealed: verification failed.
        OtherKey: the seals cannot be verified with these keys.
        NotTheOwner: the role may not take rows away.
    """
    if not (seals := await db.fetch(f"{DUE} LIMIT {SEALS_AT_ONCE}", before)):
        return None
    await check_owner(db, "piccolo audit prune --before=... --yes")
    step = Pruned.of(seals)
    found = await verify(db, keys, first=step.first_seal, last=step.last_seal, lock=LOCK)
    if found.problem is not None:
        raise NotAsSealed(f"the trail is not as it was sealed: {found.problem.message}")
    await count_sealed(db)
    await _remove(db, keys, step, before, seals[-1]["digest"])
    return step


def _both(archived: Pruned | None, rows: Pruned | None) -> Pruned | None:
    """Return what leaves the archive, and what leaves the table after it, as one."""
    if archived is None or rows is None:
        return archived or rows
    return Pruned(
        archived.first_seal, rows.last_seal, archived.first_id, rows.last_id,
        archived.rows + rows.rows,
    )  # fmt: skip


async def prune(
    db: Database,
    before: datetime,
    keys: SealKeys,
    progress: Callable[[int], None] = lambda rows: None,
    archive: Archive | None = None,
) -> Pruned | None:
    """Remove what is older than a moment. First all is verified: pruning must hide nothing.

    It goes in steps, each one transaction with its own record: neither writers nor the sealer wait
    for long, and what an interruption leaves behind is complete.

    Args:
        progress: called with the number of rows that each step verified or removed.
        archive: where older rows may be; files go, of which all rows are as old.

    Raises:
        NotAsSealed: verification failed.
        OtherKey: the seals cannot be verified with these keys.
    """
    rows = archive.following() if archive else None
    verified = await verify(db, keys, progress=progress, archive=rows)
    if (problem := verified.problem) is not None:
        raise NotAsSealed(
            f"the trail is not as it was sealed, nothing was removed: {problem.message}"
        )
    await count_sealed(db)
    archived = await archive.prune(keys, before, progress) if archive else None
    seals = await db.fetch(DUE, before)
    for start in range(0, len(seals), SEALS_AT_ONCE):
        part = seals[start : start + SEALS_AT_ONCE]
        step = Pruned.of(part)
        await _remove(db, keys, step, before, part[-1]["digest"])
        progress(step.rows)
    return _both(archived, Pruned.of(seals) if seals else None)


async def _remove(
    db: Database, keys: SealKeys, step: Pruned, before: datetime, digest: str
) -> None:
    async with db.transaction():
        await db.fetchval("SELECT pg_advisory_xact_lock($1)", SEALING_LOCK)
        await db.fetchval(ALLOW)
        removed = await db.execute(DELETE, step.first_id, step.last_id)
        marked = await db.execute(MARK, step.first_seal, step.last_seal)
        seals = step.last_seal - step.first_seal + 1
        if (removed, marked) != (f"DELETE {step.rows}", f"UPDATE {seals}"):
            raise PrunedMeanwhile
        details = {**asdict(step), "before": before.isoformat()}
        await record(db, "audit.prune", "audit_logs", details=details)
        await sign(db, keys, "prune", step, f"before {before.isoformat()}", digest)


async def sign(
    db: Database,
    keys: SealKeys,
    kind: Literal["archive", "prune"],
    step: Pruned,
    reason: str,
    digest: str,
) -> None:
    """Sign that rows left the table, or the archive; `digest` is that of the last seal above."""
    removal = Removal(
        kind=kind, first_id=step.first_id, last_id=step.last_id, row_count=step.rows,
        first_seal=step.first_seal, last_seal=step.last_seal, rows_digest=digest,
        pseudonym=None, actor=whoever_acts(), reason=reason,
        created_at=await db.fetchval(NOW), key_id=keys.newest,
    )  # fmt: skip
    await store(db, keys, removal)
