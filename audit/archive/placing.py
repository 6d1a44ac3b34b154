"""Placing a file in the archive: written, stored, read again from there, and verified."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.archive.files import Rows, describe, write
from audit.archive.following import Following
from audit.archive.locking import lock
from audit.archive.reading import Archive
from audit.database import Record
from audit.digests import Seal, SealKeys, root_of
from audit.errors import GroundworkError
from audit.prune import NotAsSealed
from audit.removals import Removals
from audit.seals import OtherKey
from audit.tampering import Tampered, check_erased

ARCHIVE_LOCK = 0x4152434849  # «ARCHI» in ASCII; held by who writes or removes files
A_DAY = 86_400
# Which seals, the beginning of the last one's digest, and some digits that no other file has.
NAME = re.compile(r"seals-(\d+)-(\d+)-([0-9a-f]{16})-[0-9a-f]{8}\.parquet", re.ASCII)
LOCKED_UNTIL = "SELECT clock_timestamp() + $1::text::interval"
ORPHANS = """
    SELECT given.name
    FROM unnest($1::text[], $2::bigint[], $3::text[]) AS given (name, seal, digest)
    JOIN audit_seals ON audit_seals.id = given.seal AND left(audit_seals.digest, 16) = given.digest
    WHERE NOT EXISTS (SELECT FROM audit_archives WHERE audit_archives.name = given.name)
"""


@dataclass
class Checked:
    """What a file has to hold.

    Args:
        progress: called with the number of rows under each seal that was read again.
    """

    archive: Archive
    keys: SealKeys
    seals: Sequence[Record]
    removals: Removals
    progress: Callable[[int], None] = lambda rows: None

    async def verify(self, name: str) -> None:
        """Read a file where it is kept, and compare it with the seals.

        Raises:
            NotAsSealed: it holds something else.
            OtherKey: these keys cannot say.
        """
        following = Following(self.archive, (name, self.seals[-1]["last_id"]))
        for row in self.seals:
            seal = Seal.of(row)
            if seal.key_id not in self.keys:
                raise OtherKey(seal.id, str(seal.key_id))
            if seal.sign(self.keys) != row["digest"]:
                raise NotAsSealed(f"seal {seal.id} was altered; see piccolo audit verify")
            found = await following.leaves(seal)
            if await asyncio.to_thread(root_of, found) != seal.root:
                message = f"the rows under seal {seal.id} are not what was sealed"
                raise NotAsSealed(f"{message}; see piccolo audit verify")
            try:
                check_erased(seal, found, self.removals.erased(seal.first_id, seal.last_id))
            except Tampered as error:
                raise NotAsSealed(f"{error}; see piccolo audit verify") from None
            self.progress(seal.row_count)


async def place_file(checked: Checked, rows: Rows, folder: Path) -> tuple[str, int]:
    """Make a file, by way of a folder, store it and verify it; return its name and size."""
    archive, last = checked.archive, checked.seals[-1]
    name = (
        f"seals-{checked.seals[0]['id']:08d}-{last['id']:08d}-"
        f"{last['digest'][:16]}-{secrets.token_hex(4)}.parquet"
    )
    target = folder / name
    await archive.write(lambda cursor: write(cursor, rows, describe(checked.seals), target))
    await asyncio.to_thread(archive.store.put, name, target)
    size = target.stat().st_size
    try:
        await checked.verify(name)
    except GroundworkError:
        await asyncio.to_thread(archive.store.delete, name)
        raise
    if archive.lock:
        until = await archive.db.fetchval(LOCKED_UNTIL, archive.lock)
        await asyncio.to_thread(lock, archive.store.path(name), until)
    return name, size


async def sweep(archive: Archive) -> None:
    """Remove files of this trail that no catalog names. Nobody else is writing: the lock is held.

    A file of another trail in the same place is not of one of our seals, and stays.
    """
    await asyncio.to_thread(archive.store.make)
    found = [match for name in await asyncio.to_thread(archive.store.names)
             if (match := NAME.fullmatch(name))]  # fmt: skip
    names, lasts, digests = (
        [each[0] for each in found], [int(each[2]) for each in found], [each[3] for each in found]
    )  # fmt: skip
    for row in await archive.db.fetch(ORPHANS, names, lasts, digests):
        await asyncio.to_thread(archive.store.delete, row["name"])
    await asyncio.to_thread(_sweep_folders, archive)


def _sweep_folders(archive: Archive) -> None:
    """Remove what writers that were killed a day ago or longer left in folders."""
    written = list(archive.store.left_over())
    temporary = Path(tempfile.gettempdir()).glob("groundwork-archive-*")
    for path in [*written, *temporary]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - A_DAY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
