"""Moving old rows from the table to a file: never is a row in neither.

A step is one transaction, which holds a lock of its own from the beginning. The file is written,
and read again from where it is kept; where it holds what was sealed, the rows leave the table.
Whatever ends before that leaves a file that no catalog names, which the next step removes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from audit.archive import catalog
from audit.archive.files import copy_out, from_csv
from audit.archive.placing import ARCHIVE_LOCK, Checked, place_file, sweep
from audit.archive.reading import Archive
from audit.database import Record
from audit.digests import Seal, SealKeys
from audit.errors import Refused
from audit.prune import DELETE, DUE, NotAsSealed, Pruned, sign
from audit.record import record
from audit.removals import ALLOW, Removals, check_owner
from audit.seals import SEALING_LOCK
from audit.summary import count_sealed

SEALS_IN_A_FILE = 1_000
ROWS_IN_A_FILE = 1_000_000
BYTES_IN_A_FILE = 2**30  # of CSV, after which no further seal is begun
ROWS_AT_ONCE = 50_000  # deleted by one statement, but for the last seal: each has a time limit
WAIT = "SELECT set_config('idle_in_transaction_session_timeout', '0', true)"
MARK = """
    UPDATE audit_seals SET archived_at = clock_timestamp(), leaves = NULL
    WHERE id BETWEEN $1 AND $2 AND archived_at IS NULL AND pruned_at IS NULL
"""
LAST_REMOVAL = "SELECT coalesce(max(id), 0) FROM audit_removals"


class AlreadyArchiving(Refused):
    """Another process is at work on the archive already."""

    status, code = 409, "conflict"


class Moved(Pruned):
    """What a step moved, or would move first, into one file."""


async def archive_step(
    archive: Archive,
    keys: SealKeys,
    before: datetime,
    progress: Callable[[int], None] = lambda rows: None,
) -> Moved | None:
    """Move the oldest rows, up to a million, into one file; None is nothing to move.

    Args:
        before: a seal is moved where all of its rows are older.
        progress: called with numbers of rows, twice for each: once written, once verified.

    Raises:
        AlreadyArchiving: another process does.
        NotAsSealed: the rows, or those in the file, are not what was sealed; nothing was moved.
        OtherKey: the seals cannot be verified with these keys.
        ArchiveUnavailable: the archive cannot be reached.
        NotTheOwner: the role may not take rows away.
    """
    db = archive.db
    await count_sealed(db)
    async with db.transaction():
        await db.fetchval(WAIT)
        if not await db.fetchval("SELECT pg_try_advisory_xact_lock($1)", ARCHIVE_LOCK):
            raise AlreadyArchiving
        await db.fetchval(ALLOW)
        await sweep(archive)
        await check_owner(db, "piccolo audit archive --yes")
        if not (due := await db.fetch(f"{DUE} LIMIT {SEALS_IN_A_FILE}", before)):
            return None
        signed = await db.fetchval(LAST_REMOVAL)
        with tempfile.TemporaryDirectory(prefix="groundwork-archive-") as folder:
            seals, parts = await _written(archive, due, Path(folder), progress)
            async with db.connection() as connection:
                removals = await Removals.read(connection, keys)
            checked = Checked(archive, keys, seals, removals, progress)
            name, size = await place_file(checked, from_csv(parts), Path(folder))
        await db.fetchval("SELECT pg_advisory_xact_lock($1)", SEALING_LOCK)
        if await db.fetchval(LAST_REMOVAL) != signed:
            raise NotAsSealed("rows were erased meanwhile: try again")
        return await _take_away(archive, keys, seals, name, size)


async def _written(
    archive: Archive, due: Sequence[Record], folder: Path, progress: Callable[[int], None]
) -> tuple[list[Record], list[Path]]:
    """Write rows of the table into files; return the seals above them, and these."""
    seals, parts, rows, size = list[Record](), list[Path](), 0, 0
    for row in due:
        async with archive.db.connection() as connection:
            written = await copy_out(connection, Seal.of(row), folder)
        seals.append(row)
        parts += written
        progress(row["row_count"])
        rows += row["row_count"]
        size += sum(part.stat().st_size for part in written)
        if rows >= ROWS_IN_A_FILE or size >= BYTES_IN_A_FILE:
            break
    return seals, parts


def _in_parts(seals: Sequence[Record]) -> Iterator[Moved]:
    """Yield seals in parts, which are deleted one by one."""
    part, rows = list[Record](), 0
    for seal in seals:
        part.append(seal)
        rows += seal["row_count"]
        if rows >= ROWS_AT_ONCE:
            yield Moved.of(part)
            part, rows = [], 0
    if part:
        yield Moved.of(part)


async def _take_away(
    archive: Archive, keys: SealKeys, seals: Sequence[Record], name: str, size: int
) -> Moved:
    """Delete the rows, and say where they are."""
    db, moved = archive.db, Moved.of(seals)
    values = (moved.first_seal, moved.last_seal, moved.first_id, moved.last_id, moved.rows)
    await db.execute(catalog.INSERT, name, size, *values)  # it looks at the rows
    for part in _in_parts(seals):
        removed = await db.execute(DELETE, part.first_id, part.last_id)
        marked = await db.execute(MARK, part.first_seal, part.last_seal)
        numbers = part.last_seal - part.first_seal + 1
        if (removed, marked) != (f"DELETE {part.rows}", f"UPDATE {numbers}"):
            raise NotAsSealed("rows were removed meanwhile: try again")
    await record(db, "audit.archive", "audit_logs", details={**asdict(moved), "file": name})
    await sign(db, keys, "archive", moved, f"to {name}", seals[-1]["digest"])
    return moved
