"""Changing rows that were archived, to erase a person: a new file takes the place of the old one.

Nothing is overwritten: the catalog names the new file once that was verified against the same
seals. The old one is deleted by `Archive.store.delete` after the commit, or else by the next
`piccolo audit archive`, which removes what the catalog does not name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.archive import catalog
from audit.archive.catalog import File
from audit.archive.columns import ROW, STORED
from audit.archive.files import Rows, from_csv
from audit.archive.placing import ARCHIVE_LOCK, Checked, place_file
from audit.archive.reading import Archive
from audit.database import Connection
from audit.digests import SealKeys
from audit.export import encode
from audit.removals import ALLOW, Removals

CHANGEABLE = (
    "user_id", "actor", "ip_address", "request_id", "resource_id", "details", "salt",
    "who_digest", "what_digest",
)  # fmt: skip
AT_ONCE = 50  # rows that are read to be changed
SEALS = "SELECT * FROM audit_seals WHERE id BETWEEN $1 AND $2 ORDER BY id"
POINT = "UPDATE audit_archives SET name = $2, bytes = $3 WHERE id = $1 AND name = $4"
READ = f"SELECT user_id, {ROW} FROM read_parquet(?) WHERE id IN ({{ids}}) ORDER BY id"  # noqa: S608


@dataclass(frozen=True)
class Sought:
    """What rows are looked for by: any of these.

    Args:
        user_id: who did it.
        names: that stand in the actor, the record's key or the details, whatever their case.
        records: tables and keys.
        tables: whose rows may be about `user_id`: those whose details have this number somewhere.
    """

    user_id: int | None = None
    names: Sequence[str] = ()
    records: Sequence[tuple[str, str]] = ()
    tables: Sequence[str] = ()

    def where(self) -> tuple[str, list[Any]]:
        """Return a condition for DuckDB, and its parameters."""
        tests, values = ["user_id = ?"], list[Any]([self.user_id])
        for name in self.names:
            for column in ("actor", "resource_id", "details"):
                tests.append(f"contains(lower({column}), lower(?))")
                values.append(encode(name)[1:-1] if column == "details" else name)
        for table in self.tables:
            tests.append("resource = ? AND contains(details, ?)")
            values += [table, str(self.user_id)]
        for record in self.records:
            tests.append("resource = ? AND resource_id = ?")
            values += record
        return " OR ".join(f"coalesce({test}, false)" for test in tests), values


async def find_rows(
    archive: Archive, connection: Connection, sought: Sought
) -> dict[File, list[int]]:
    """Return ids of rows, by the files that hold them; all files are looked through."""
    condition, values = sought.where()
    sql = f"SELECT id FROM read_parquet(?) WHERE {condition} ORDER BY id"  # noqa: S608  constants
    found: dict[File, list[int]] = {}
    for file in await catalog.of_time(connection, None, None, None):
        if rows := await archive.query([file.name], sql, *values):
            found[file] = [row["id"] for row in rows]
    return found


async def rows_of(archive: Archive, file: File, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return some rows of a file: `user_id`, and the columns of `audit.digests.ROW`."""
    return await archive.query([file.name], READ.format(ids=", ".join(map(str, ids))))


async def replace_rows(
    archive: Archive,
    keys: SealKeys,
    connection: Connection,
    file: File,
    changed: Mapping[int, Mapping[str, object]],
) -> str:
    """Write a file anew with some rows changed, and have the catalog name it; return the old name.

    Args:
        connection: with the caller's transaction, in which the erasure was signed already.
        changed: new values of columns of CHANGEABLE, by the ids of rows.

    Raises:
        NotAsSealed: the file, as it is or would be, does not hold what was sealed.
    """
    await connection.fetchval("SELECT pg_advisory_xact_lock($1)", ARCHIVE_LOCK)
    await connection.fetchval(ALLOW)
    seals = await connection.fetch(SEALS, file.first_seal, file.last_seal)
    checked = Checked(archive, keys, seals, await Removals.read(connection, keys))
    with tempfile.TemporaryDirectory(prefix="groundwork-archive-") as folder:
        changes = Path(folder, "changes.csv")
        await _write_changes(archive, file, changed, changes)
        name, size = await place_file(checked, _source(archive, file, changes), Path(folder))
    await connection.execute(POINT, file.id, name, size, file.name)
    return file.name


def _source(archive: Archive, file: File, changes: Path) -> Rows:
    """Return the rows of a file, with changes that are in another one."""
    new = from_csv([changes])
    columns = ", ".join(
        f"CASE WHEN new.id IS NULL THEN old.{name} ELSE new.{name} END AS {name}"
        if name in CHANGEABLE
        else f"old.{name}"
        for name in STORED
    )
    sql = f"""
        SELECT {columns} FROM read_parquet(?) AS old LEFT JOIN ({new.sql}) AS new ON old.id = new.id
        ORDER BY old.id
    """  # noqa: S608  constants only
    return Rows(sql, [archive.store.path(file.name), *new.values])


async def _write_changes(
    archive: Archive, file: File, changed: Mapping[int, Mapping[str, object]], target: Path
) -> None:
    """Write whole rows as they will be, in the form of `copy_out`."""
    ids = sorted(changed)
    with target.open("w", encoding="utf-8", newline="") as out:
        for start in range(0, len(ids), AT_ONCE):
            for row in await rows_of(archive, file, ids[start : start + AT_ONCE]):
                new = changed[row["id"]]
                assert new.keys() <= set(CHANGEABLE)
                whole = {**row, "created_at": 0, **new}
                out.write(",".join(_cell(whole[name]) for name in STORED) + "\n")


def _cell(value: object) -> str:
    """Return a value as COPY quotes it; only columns that can change are read."""
    if value is None:
        return ""
    if isinstance(value, bool):
        value = "t" if value else "f"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return '"' + text.replace('"', '""') + '"'
