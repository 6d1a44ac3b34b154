"""Is the trail what was sealed? Names the first row or seal that is not."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Literal

from audit.database import Connection, Database, Record
from audit.digests import Leaf, Seal, SealKeys, pack, rows_digest, unpack
from audit.errors import Refused
from audit.paging import pages, select, trail_pages, transaction
from audit.record import record
from audit.seals import ROW, ROWS_PER_SEAL, SEALS_EVER_MADE, OtherKey, leaves_of

ROWS = "id <= $1 ORDER BY id"
SEALS = "SELECT * FROM audit_seals ORDER BY id"
SEALS_IN_A_PAGE = 10  # their leaves take up to 160 kB each
EXPORTED = """
    SELECT row_to_json(seal) FROM (
        SELECT id, first_id, last_id, row_count, rows_digest, algorithm, key_id, previous_digest,
               digest, created_at AT TIME ZONE 'UTC' AS created_at_utc
        FROM audit_seals ORDER BY id
    ) AS seal
"""
# What is too large for a page was not written by `prune`.
PRUNES = select(("id", "details"), "action = 'audit.prune'")

Kind = Literal[
    "altered", "removed", "inserted", "moved",  # a row
    "seal_altered", "seal_removed", "leaves_altered", "pruned_unrecorded",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """The first thing that is not as it was sealed."""

    kind: Kind
    message: str
    seal: int
    row: int | None = None


@dataclass
class Verification:
    """Numbers of rows that were looked at; up to the first problem, if there is one."""

    verified: int = 0
    pruned: int = 0
    unsealed: int = 0
    seals: int = 0
    seals_without_key: int = 0
    problem: Problem | None = None


class AlreadyVerifying(Refused):
    """The trail is being verified already."""

    status, code = 409, "conflict"


class Tampered(Exception):
    def __init__(self, kind: Kind, message: str, seal: int, row: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message, seal, row)


async def verify(
    db: Database,
    keys: SealKeys,
    *,
    kept: Mapping[int, str] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    lock: int | None = None,
) -> Verification:
    """Check every seal and every sealed row, as of one moment; memory stays flat.

    Args:
        keys: that made the seals.
        kept: digests of seals that were kept elsewhere, by the seals' numbers.
        progress: called with the number of rows that each seal covers.
        lock: an advisory lock that is held meanwhile.

    Raises:
        OtherKey: a seal was made with a key that is not among these.
        AlreadyVerifying: somebody else holds the lock.
    """
    report = Verification()
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        if lock and not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock):
            raise AlreadyVerifying
        end = await connection.fetchval("SELECT coalesce(max(last_id), 0) FROM audit_seals")
        check = _Check(keys, dict(kept or {}), report, await _recorded_prunes(connection))
        check.rows = _Rows(trail_pages(connection, ROW, ROWS, end))
        try:
            async for page in pages(connection, SEALS, size=SEALS_IN_A_PAGE):
                for row in page:
                    await check.seal(row)
                    progress(row["row_count"])
            check.end(await connection.fetchval(SEALS_EVER_MADE))
        except Tampered as tampered:
            report.problem = tampered.problem
        unsealed = "SELECT count(*) FROM audit_logs WHERE id > $1"
        report.unsealed = await connection.fetchval(unsealed, end)
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


async def _recorded_prunes(connection: Connection) -> int:
    """Return the number of the last seal whose rows were pruned, as the trail says."""
    last = 0
    async for page in pages(connection, PRUNES):
        for row in page:
            with suppress(TypeError, ValueError, KeyError):
                last = max(last, int(json.loads(row["details"])["last_seal"]))
    return last


class _Rows:
    """The sealed rows in the order of their ids."""

    def __init__(self, pages: AsyncIterator[list[Record]]) -> None:
        self._pages = pages
        self._page: list[Leaf] = []

    async def up_to(self, last_id: int, limit: int) -> list[Leaf]:
        """Return those up to an id, which the next call will not see again; at most so many."""
        taken: list[Leaf] = []
        while len(taken) < limit:
            if not self._page:
                self._page = await leaves_of(await anext(self._pages, []))
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
    pruned_up_to: int
    rows: _Rows = field(init=False)
    last: Seal | None = None
    last_digest: str | None = None

    async def seal(self, row: Record) -> None:
        """Check the next seal, then the rows below it."""
        seal = Seal.of(row)
        self._chain(seal, row)
        self.last, self.last_digest = seal, row["digest"]
        if row["pruned_at"] is None:
            await self._rows(seal, row["leaves"])
        else:
            await self._pruned(seal)
        self.report.seals += 1
        self.report.seals_without_key += seal.key_id is None

    def _chain(self, seal: Seal, row: Record) -> None:
        expected = self.last.id + 1 if self.last else 1
        if seal.id != expected:
            raise Tampered("seal_removed", f"seal {expected} was removed", expected)
        if seal.key_id not in self.keys:
            raise OtherKey(seal.id, str(seal.key_id))
        key_was_dropped = self.last and self.last.key_id and not seal.key_id
        if (
            seal.sign(self.keys) != row["digest"]
            or seal.algorithm != row["algorithm"]
            or seal.previous_digest != self.last_digest
            or key_was_dropped
        ):
            raise Tampered("seal_altered", f"seal {seal.id} was altered", seal.id)
        if self.kept.pop(seal.id, row["digest"]) != row["digest"]:
            message = f"seal {seal.id} is not the one that was exported"
            raise Tampered("seal_altered", message, seal.id)

    async def _rows(self, seal: Seal, packed: bytes | None) -> None:
        found = await self.rows.up_to(seal.last_id, seal.row_count + ROWS_PER_SEAL)
        if rows_digest(found) != seal.rows_digest:
            raise _first_difference(seal, packed or b"", found)
        if pack(found) != packed:
            message = f"the leaves of seal {seal.id} were altered; its rows were not"
            raise Tampered("leaves_altered", message, seal.id)
        self.report.verified += seal.row_count

    async def _pruned(self, seal: Seal) -> None:
        if seal.id > self.pruned_up_to or self.report.verified:
            message = f"the rows of seal {seal.id} were removed without a record of pruning them"
            raise Tampered("pruned_unrecorded", message, seal.id)
        for leaf in await self.rows.up_to(seal.last_id, 1):
            message = f"row {leaf.id} was inserted under seal {seal.id}, whose rows were pruned"
            raise Tampered("inserted", message, seal.id, leaf.id)
        self.report.pruned += seal.row_count

    def end(self, ever_made: int) -> None:
        """Raise Tampered where the last seals were removed."""
        last = self.last.id if self.last else 0
        if max([ever_made, *self.kept]) > last:
            message = f"seal {last + 1} was removed, and all after it: the end was cut off"
            raise Tampered("seal_removed", message, last + 1)


def _first_difference(seal: Seal, packed: bytes, found: list[Leaf]) -> Tampered:
    """Return what names the first row that is not as it was."""
    was = {leaf.id: leaf.digest for leaf in unpack(packed)}
    now = {leaf.id: leaf.short_digest for leaf in found}
    went = {id_: mark for id_, mark in was.items() if now.get(id_) != mark}
    came = {id_: mark for id_, mark in now.items() if was.get(id_) != mark}
    if len(was) != seal.row_count or not (went or came):
        message = (
            f"rows {seal.first_id} to {seal.last_id} are not as they were sealed; "
            f"which one cannot be said, since the leaves of seal {seal.id} were altered, too"
        )
        return Tampered("altered", message, seal.id)
    row = min([*went, *came])
    if (other := _holder(went, came.get(row))) is not None:
        return Tampered("moved", f"row {row} holds what was in row {other}", seal.id, row)
    if (other := _holder(came, went.get(row))) is not None:
        return Tampered("moved", f"row {row} was moved: it is row {other} now", seal.id, row)
    if row not in was:
        return Tampered("inserted", f"row {row} was inserted", seal.id, row)
    if row not in now:
        return Tampered("removed", f"row {row} was removed", seal.id, row)
    return Tampered("altered", f"row {row} was altered", seal.id, row)


def _holder(marks: Mapping[int, bytes], mark: bytes | None) -> int | None:
    return next((id_ for id_, held in marks.items() if held == mark), None)
