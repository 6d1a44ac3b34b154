"""Erasing a person from rows that were archived: their files are written anew, see `rewriting`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from audit.archive.catalog import File
from audit.archive.placing import ARCHIVE_LOCK
from audit.archive.reading import Archive
from audit.archive.rewriting import Sought, find_rows, replace_rows, rows_of
from audit.database import Connection, Queries
from audit.digests import WHAT, WHO, SealKeys
from audit.erase import commitments
from audit.known_person import Known, Side, parts_of

Found: TypeAlias = Mapping[File, Mapping[int, int]]
AT_ONCE = 500  # rows


async def wait(connection: Queries) -> None:
    """Wait until nobody archives, and keep others from it to the end of the transaction."""
    await connection.fetchval("SELECT pg_advisory_xact_lock($1)", ARCHIVE_LOCK)


async def accounts(archive: Archive, connection: Connection, person: int) -> list[Side]:
    """Return what archived rows say of somebody's account, before and after each change."""
    found = list[Side]()
    sought = Sought(records=[("users", str(person))])
    for file, ids in (await find_rows(archive, connection, sought)).items():
        for row in await rows_of(archive, file, ids):
            details = json.loads(row["details"] or "null")
            if row["resource"] == "users" and isinstance(details, dict):
                found += [side for side in details.values() if isinstance(side, dict)]
    return found


async def find(archive: Archive, connection: Connection, person: int, known: Known) -> Found:
    """Return the parts to erase of rows by and about a person, by the files that hold them."""
    sought = Sought(
        person, [*known.names, *known.texts], [("users", str(person))], sorted(known.tables)
    )
    found: dict[File, dict[int, int]] = {}
    for file, ids in (await find_rows(archive, connection, sought)).items():
        for start in range(0, len(ids), AT_ONCE):
            for row in await rows_of(archive, file, ids[start : start + AT_ONCE]):
                if parts := parts_of(row, person, known):
                    found.setdefault(file, {})[row["id"]] = parts
    return found


async def replace(
    archive: Archive, keys: SealKeys, connection: Connection, found: Found, pseudonym: str
) -> list[str]:
    """Put commitments and the pseudonym in the place of what was found; return names of old files,
    which are deleted once this is committed."""
    old = []
    for file, parts in found.items():
        changed = {}
        ids = sorted(parts)
        for start in range(0, len(ids), AT_ONCE):
            for row in await rows_of(archive, file, ids[start : start + AT_ONCE]):
                changed[row["id"]] = _changed(row, parts[row["id"]], pseudonym)
        old.append(await replace_rows(archive, keys, connection, file, changed))
    return old


async def delete(archive: Archive, names: Iterable[str]) -> None:
    """Delete old files; those that are locked, or not reached, stay to the next archiving."""
    for name in names:
        await asyncio.to_thread(archive.store.delete, name)


def _changed(row: Mapping[str, object], parts: int, pseudonym: str) -> dict[str, object]:
    salt, who, what = commitments(row, parts)
    changed: dict[str, object] = {"salt": salt}
    if parts & WHO:
        changed |= {"who_digest": who, "actor": pseudonym}
        changed |= dict.fromkeys(("user_id", "ip_address", "request_id"))
    if parts & WHAT:
        changed |= {"what_digest": what, "resource_id": pseudonym, "details": None}
    return changed
