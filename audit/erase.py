"""Erasing a person: who they were and what was known of them goes, and the trail still verifies.

In rows about the person what changed is replaced by a commitment to it, in rows of what they did
who did it. What they did to others stays readable. All of it is one transaction, and signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from audit.database import Connection, Database, Queries, Record
from audit.digests import ROW, WHAT, WHO, SealKeys, key_of, what_digest, who_digest
from audit.errors import Refused
from audit.known_person import Eraser, Known, Side, rows_of
from audit.paging import PAGE, select, whole
from audit.record import record
from audit.removals import ALLOW, NOW, Removal, packed, store, whoever_acts
from audit.seals import SEALING_LOCK, last_seal
from audit.verify import HAS_ARCHIVE, NoArchive

if TYPE_CHECKING:
    from audit.archive.erasing import Found
    from audit.archive.reading import Archive

ERASE = """
    UPDATE audit_logs SET
        salt = new.salt,
        who_digest = coalesce(audit_logs.who_digest, new.who),
        user_id = CASE WHEN new.who IS NULL THEN user_id END,
        actor = CASE WHEN new.who IS NULL THEN actor ELSE $5 END,
        ip_address = CASE WHEN new.who IS NULL THEN ip_address END,
        request_id = CASE WHEN new.who IS NULL THEN request_id END,
        what_digest = coalesce(audit_logs.what_digest, new.what),
        resource_id = CASE WHEN new.what IS NULL THEN resource_id ELSE $5 END,
        details = CASE WHEN new.what IS NULL THEN details END
    FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[]) AS new (id, salt, who, what)
    WHERE audit_logs.id = new.id
"""


class NobodyToErase(Refused):
    """There is no such person, and the trail knows of none."""

    status, code = 404, "not_found"


@dataclass(frozen=True)
class Erasure:
    """What was erased, or would be.

    Args:
        who: rows of the trail that lose who did it.
        what: rows that lose what was done.
        archived: of `rows`, how many are in the archive.
        tables: how many rows of other tables.
    """

    person: int
    pseudonym: str
    names: Sequence[str]
    who: int
    what: int
    rows: int
    archived: int
    tables: Mapping[str, int]


def pseudonym_of(person: int) -> str:
    """Return what stands in the place of a person, the same at each time."""
    return f"erased-{sha256(f'groundwork person {person}'.encode()).hexdigest()[:8]}"


async def would_erase(
    db: Database, erasers: Sequence[Eraser], person: int, archive: Archive | None = None
) -> Erasure:
    """Return what would be erased, as far as it is there now.

    Raises:
        NobodyToErase: nobody knows this person.
        NoArchive: rows were archived, and nobody says where.
    """
    async with db.connection() as connection:
        known = await _known(connection, erasers, person, archive)
        found = await rows_of(connection, person, known)
        archived = await _archived(connection, archive, person, known)
    return _erasure(person, known, found, [*archived.values()])


async def erase(
    db: Database,
    keys: SealKeys,
    erasers: Sequence[Eraser],
    person: int,
    reason: str,
    progress: Callable[[int], None] = lambda rows: None,
    archive: Archive | None = None,
) -> Erasure:
    """Erase a person, all at once; the sealer waits meanwhile.

    Args:
        reason: why, for the record that is signed.
        progress: called with the number of rows that each step erased.
        archive: where rows are that were archived; their files are written anew.

    Raises:
        NobodyToErase: nobody knows this person.
        NoArchive: rows were archived, and nobody says where.
        OtherKey: the last seal was made with a key that is not among these.
        asyncpg.InsufficientPrivilegeError: the role does not own the trail.
    """
    async with db.transaction():
        if archive is not None:  # first, as archiving does
            from audit.archive import erasing

            await erasing.wait(db)
        await db.fetchval("SELECT pg_advisory_xact_lock($1)", SEALING_LOCK)
        await last_seal(
            db, keys
        )  # else a signature without a key would stand beside those with one
        await db.fetchval(ALLOW)
        async with db.connection() as connection:
            known = await _known(connection, erasers, person, archive)
        pseudonym = pseudonym_of(person)
        for eraser in erasers:
            await eraser.erase(db, person, known, pseudonym)
        found = await rows_of(db, person, known)  # with what the trail says of just that
        async with db.connection() as connection:
            archived = await _archived(connection, archive, person, known)
            done = _erasure(person, known, found, [*archived.values()])
            entries = sorted([*found, *(row for part in archived.values() for row in part.items())])
            await _sign(db, keys, done, entries, reason)
            old = await _replace_archived(connection, archive, keys, archived, pseudonym)
        for start in range(0, len(found), PAGE):
            part = dict(found[start : start + PAGE])
            await _replace(db, part, pseudonym)
            progress(len(part))
        details = {"pseudonym": pseudonym, "reason": reason, "rows": done.rows}
        await record(db, "audit.erase", "audit_logs", pseudonym, details)
    if archive is not None:
        await erasing.delete(archive, old)
    return done


async def _archived(
    connection: Connection, archive: Archive | None, person: int, known: Known
) -> Found:
    if archive is None:
        if await connection.fetchval(HAS_ARCHIVE):
            raise NoArchive
        return {}
    from audit.archive import erasing

    return await erasing.find(archive, connection, person, known)


async def _replace_archived(
    connection: Connection, archive: Archive | None, keys: SealKeys, found: Found, pseudonym: str
) -> list[str]:
    if archive is None or not found:
        return []
    from audit.archive import erasing

    return await erasing.replace(archive, keys, connection, found, pseudonym)


async def _known(
    connection: Connection, erasers: Iterable[Eraser], person: int, archive: Archive | None
) -> Known:
    known, archived = Known(), list[Side]()
    if archive is not None:
        from audit.archive import erasing

        archived = await erasing.accounts(archive, connection, person)
    for eraser in erasers:
        known.add(await eraser.known(connection, person, archived))
    if not known.names:
        raise NobodyToErase
    return known


def _erasure(
    person: int,
    known: Known,
    found: Sequence[tuple[int, int]],
    archived: Sequence[Mapping[int, int]],
) -> Erasure:
    parts = [part for _, part in found]
    parts += [part for rows in archived for part in rows.values()]
    return Erasure(
        person=person,
        pseudonym=pseudonym_of(person),
        names=sorted(known.names),
        who=sum(part & WHO > 0 for part in parts),
        what=sum(part & WHAT > 0 for part in parts),
        rows=len(parts),
        archived=len(parts) - len(found),
        tables=known.rows,
    )


async def _sign(
    db: Queries, keys: SealKeys, done: Erasure, found: Sequence[tuple[int, int]], reason: str
) -> None:
    if not found:
        return
    entries = packed(found)
    removal = Removal(
        kind="erase", first_id=found[0][0], last_id=found[-1][0], row_count=len(found),
        first_seal=None, last_seal=None, rows_digest=sha256(entries).hexdigest(),
        pseudonym=done.pseudonym, actor=whoever_acts(), reason=reason,
        created_at=await db.fetchval(NOW), key_id=keys.newest,
    )  # fmt: skip
    await store(db, keys, removal, entries)


async def _replace(db: Queries, parts: Mapping[int, int], pseudonym: str) -> None:
    """Put commitments and the pseudonym in the place of parts of some rows."""
    sql = select(ROW, "id = any($1) ORDER BY id")
    ids, salts, whos, whats = list[int](), list[bytes | None](), list[bytes | None](), []
    page = await db.fetch(sql, list(parts))
    async for rows in whole(db, ROW, page):
        for row in rows:
            salt, who, what = commitments(row, parts[row["id"]])
            ids.append(row["id"])
            salts.append(salt)
            whos.append(who)
            whats.append(what)
    await db.execute(ERASE, ids, salts, whos, whats, pseudonym)


def commitments(
    row: Record | Mapping[str, Any], parts: int
) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return what of the salt may stay, and commitments to the parts that go.

    Args:
        row: of ROW.
        parts: WHO, WHAT or both, which are not erased yet.
    """
    salt: bytes = row["salt"] or b""
    who = what = None
    if parts & WHO:
        who = who_digest(salt, row["actor"], row["ip_address"], row["request_id"])
    if parts & WHAT:
        what = what_digest(salt, row["resource_id"], row["details"])
    gone = parts | (WHO if row["who_digest"] else 0) | (WHAT if row["what_digest"] else 0)
    if gone == WHO | WHAT:
        return None, who, what
    return key_of(WHAT if gone == WHO else WHO, salt), who, what
