"""Is the trail what was sealed? Names the first row or seal that is not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Protocol

from audit.database import Database, Record
from audit.digests import ROW, Leaf, Seal, SealKeys, pack, root_of
from audit.errors import GroundworkError, Refused
from audit.paging import pages, trail_pages, transaction
from audit.record import record
from audit.removals import Kind as RemovalKind
from audit.removals import Removals
from audit.seals import LOWEST_ID, ROWS_PER_SEAL, SEALS_EVER_MADE, OtherKey, leaf_pages
from audit.tampering import Kind as ProblemKind
from audit.tampering import Problem, Tampered, check_erased, first_difference

ROWS = "id BETWEEN $1 AND $2 ORDER BY id"
BEFORE = "SELECT * FROM audit_seals WHERE id = $1 - 1"
SEALS = "SELECT * FROM audit_seals WHERE id BETWEEN $1 AND $2 ORDER BY id"
LAST_ID = "SELECT coalesce(max(last_id), 0) FROM audit_seals WHERE id <= $1"
UNSEALED = (
    "SELECT count(*) FROM audit_logs WHERE id > (SELECT coalesce(max(last_id), 0) FROM audit_seals)"
)
SEALS_IN_A_PAGE = 10  # their leaves take up to 160 kB each
HAS_ARCHIVE = "SELECT EXISTS (SELECT FROM audit_archives)"
HIGHEST_SEAL = 2**63 - 1
EXPORTED = """
    SELECT row_to_json(seal) FROM (
        SELECT id, first_id, last_id, row_count, root, algorithm, key_id, previous_digest,
               removal_count, removals_digest, digest,
               created_at AT TIME ZONE 'UTC' AS created_at_utc
        FROM audit_seals ORDER BY id
    ) AS seal
"""


class ArchivedRows(Protocol):
    """Rows that left the table and can be read again."""

    async def leaves(self, seal: Seal) -> list[Leaf]:
        """Return those under a seal, in the order of ids.

        Raises:
            ArchiveMissing: their file is not there.
            ArchiveUnreadable: it is, but is no file of ours any more.
        """


class ArchiveMissing(GroundworkError):
    """A file of the archive is not there."""


class ArchiveUnreadable(GroundworkError):
    """A file of the archive cannot be read."""


class NoArchive(GroundworkError):
    """Rows of this trail were archived: set AUDIT_ARCHIVE to where they are."""


@dataclass
class Verification:
    """Numbers of rows that were looked at; up to the first problem, if there is one.

    Args:
        verified: those in the table and, of which it is a part, `archived` ones.
        erased: those of which who or what was erased.
    """

    verified: int = 0
    archived: int = 0
    erased: int = 0
    pruned: int = 0
    unsealed: int = 0
    seals: int = 0
    seals_without_key: int = 0
    problem: Problem | None = None


class AlreadyVerifying(Refused):
    """The trail is being verified already."""

    status, code = 409, "conflict"


async def verify(
    db: Database,
    keys: SealKeys,
    *,
    kept: Mapping[int, str] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    lock: int | None = None,
    archive: ArchivedRows | None = None,
    first: int = 1,
    last: int = HIGHEST_SEAL,
) -> Verification:
    """Check every seal and every sealed row, as of one moment; memory stays flat.

    Args:
        keys: that made the seals.
        kept: digests of seals that were kept elsewhere, by the seals' numbers.
        progress: called with the number of rows that each seal covers.
        lock: an advisory lock that is held meanwhile.
        archive: where rows are that were archived.
        first: the first seal to check; the one before it is believed.
        last: the last seal to check.

    Raises:
        OtherKey: a seal was made with a key that is not among these.
        AlreadyVerifying: somebody else holds the lock.
        NoArchive: rows were archived, and nobody says where.
    """
    report = Verification()
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        if lock and not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock):
            raise AlreadyVerifying
        check = _Check(keys, dict(kept or {}), report, archive)
        check.removals = await Removals.read(connection, keys)
        check.last = before = await connection.fetchrow(BEFORE, first)
        start = before["last_id"] + 1 if before else LOWEST_ID
        end = await connection.fetchval(LAST_ID, last)
        check.rows = _Rows(leaf_pages(trail_pages(connection, ROW, ROWS, start, end)))
        try:
            check.signatures()
            async for page in pages(connection, SEALS, first, last, size=SEALS_IN_A_PAGE):
                for row in page:
                    await check.seal(row)
                    progress(row["row_count"])
            if last == HIGHEST_SEAL:
                check.end(await connection.fetchval(SEALS_EVER_MADE))
        except Tampered as tampered:
            report.problem = tampered.problem
        report.unsealed = await connection.fetchval(UNSEALED)
    return report


async def record_result(db: Database, report: Verification) -> None:
    """Put what was found on the trail."""
    problem = report.problem and report.problem.message
    details = {**asdict(report), "intact": report.problem is None, "problem": problem}
    await record(db, "audit.verify", details=details)


async def exported_seals(db: Database) -> AsyncIterator[bytes]:
    """Yield all seals without their leaves, each as a line of JSON; for `kept`."""
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        async for page in pages(connection, EXPORTED):
            yield "".join(f"{row[0]}\n" for row in page).encode()


class _Rows:
    """The sealed rows in the order of their ids."""

    def __init__(self, pages: AsyncIterator[list[Leaf]]) -> None:
        self._pages = pages
        self._page: list[Leaf] = []

    async def up_to(self, last_id: int, limit: int) -> list[Leaf]:
        """Return those up to an id, which the next call will not see again; at most so many."""
        taken: list[Leaf] = []
        while len(taken) < limit:
            if not self._page:
                self._page = await anext(self._pages, [])
                if not self._page:
                    break
            cut = bisect_right(self._page, last_id, key=attrgetter("id"))
            taken += self._page[:cut]
            self._page = self._page[cut:]
            if self._page:
                break
        return taken


@dataclass
class _Check:
    keys: SealKeys
    kept: dict[int, str]
    report: Verification
    archive: ArchivedRows | None
    removals: Removals = field(init=False)
    rows: _Rows = field(init=False)
    last: Record | None = None

    def signatures(self) -> None:
        """Raise Tampered where a removal was not signed by one of the keys."""
        if self.removals.broken:
            raise Tampered("removal_altered", self.removals.broken, 0)
        if self.removals.other_key:
            raise OtherKey(*self.removals.other_key, what="removal")

    async def seal(self, row: Record) -> None:
        """Check the next seal, then the rows below it."""
        seal = Seal.of(row)
        self._chain(seal, row)
        self.last = row
        if self._was("prune", "pruned_unsigned", seal, row["pruned_at"]):
            await self._gone(seal, "pruned")
            self.report.pruned += seal.row_count
        elif self._was("archive", "archived_unsigned", seal, row["archived_at"]):
            await self._gone(seal, "archived")
            await self._archived(seal)
        else:
            await self._rows(seal, row["leaves"])
        self.report.seals += 1
        self.report.seals_without_key += seal.key_id is None

    def _chain(self, seal: Seal, row: Record) -> None:
        expected = self.last["id"] + 1 if self.last else 1
        if seal.id != expected:
            raise Tampered("seal_removed", f"seal {expected} was removed", expected)
        if seal.key_id not in self.keys:
            raise OtherKey(seal.id, str(seal.key_id))
        key_was_dropped = self.last and self.last["key_id"] and not seal.key_id
        if (
            seal.sign(self.keys) != row["digest"]
            or seal.algorithm != row["algorithm"]
            or seal.previous_digest != (self.last["digest"] if self.last else None)
            or key_was_dropped
        ):
            raise Tampered("seal_altered", f"seal {seal.id} was altered", seal.id)
        if self.kept.pop(seal.id, row["digest"]) != row["digest"]:
            message = f"seal {seal.id} is not the one that was exported"
            raise Tampered("seal_altered", message, seal.id)
        problem = self.removals.contradiction(seal, row["digest"])
        if problem is not None:
            raise Tampered("removal_altered", problem, seal.id)

    def _was(self, kind: RemovalKind, unsigned: ProblemKind, seal: Seal, marked: object) -> bool:
        """Return whether the rows of a seal were signed away, as the seal has to say, too."""
        is_signed = self.removals.is_signed(kind, seal.id)
        if is_signed == (marked is not None):
            return is_signed
        past = {"prune": "pruned", "archive": "archived"}[kind]
        message = f"seal {seal.id} does not say that its rows were {past}, as was signed"
        if not is_signed:
            message = f"the rows of seal {seal.id} were {past}, and nobody signed that"
        raise Tampered("seal_altered" if is_signed else unsigned, message, seal.id)

    async def _gone(self, seal: Seal, how: str) -> None:
        """Raise Tampered where there is a row under a seal whose rows have left the table."""
        for leaf in await self.rows.up_to(seal.last_id, 1):
            message = f"row {leaf.id} was inserted under seal {seal.id}, whose rows were {how}"
            raise Tampered("inserted", message, seal.id, leaf.id)

    async def _rows(self, seal: Seal, packed: bytes | None) -> None:
        found = await self.rows.up_to(seal.last_id, seal.row_count + ROWS_PER_SEAL)
        if root_of(found) != seal.root:
            raise first_difference(seal, packed or b"", found)
        if pack(found) != packed:
            message = f"the leaves of seal {seal.id} were altered; its rows were not"
            raise Tampered("leaves_altered", message, seal.id)
        self._erased(seal, found)
        self.report.verified += seal.row_count

    async def _archived(self, seal: Seal) -> None:
        if self.archive is None:
            raise NoArchive
        try:
            found = await self.archive.leaves(seal)
        except ArchiveMissing as error:
            raise Tampered("archive_missing", str(error), seal.id) from None
        except ArchiveUnreadable as error:
            raise Tampered("archive_altered", str(error), seal.id) from None
        if root_of(found) != seal.root:
            message = f"the archived rows of seal {seal.id} are not as they were sealed"
            raise Tampered("archive_altered", message, seal.id)
        self._erased(seal, found)
        self.report.verified += seal.row_count
        self.report.archived += seal.row_count

    def _erased(self, seal: Seal, found: list[Leaf]) -> None:
        signed = self.removals.erased(seal.first_id, seal.last_id)
        erased = sum(1 for leaf in found if leaf.erased)
        if erased or signed:
            check_erased(seal, found, signed)
        self.report.erased += erased

    def end(self, ever_made: int) -> None:
        """Raise Tampered where the last seals were removed."""
        if problem := self.removals.unsigned():
            raise Tampered("removal_altered", problem, self.last["id"] if self.last else 0)
        last = self.last["id"] if self.last else 0
        if max([ever_made, *self.kept]) > last:
            message = f"seal {last + 1} was removed, and all after it: the end was cut off"
            raise Tampered("seal_removed", message, last + 1)
