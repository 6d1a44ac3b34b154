"""What others need to verify the trail without the database: rows, seals, removals, as files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from audit.cli import CommandError
from audit.database import Connection, Database, Record
from audit.digests import ROW, Seal, microseconds
from audit.files import new_file
from audit.paging import pages, trail_pages, transaction
from audit.record import record
from audit.removals import ALL, IN_A_PAGE, Removal
from audit.seals import SEALS_EVER_MADE
from audit.verify import NoArchive

if TYPE_CHECKING:
    from audit.archive.reading import Archive

FORMAT = "groundwork-evidence-2"
FILES = ("trail", "removals", "seals", "rows")
LAST_ID = "SELECT coalesce(max(last_id), 0) FROM audit_seals"
SEALS = "SELECT * FROM audit_seals ORDER BY id"
ARCHIVED = """
    SELECT * FROM audit_seals
    WHERE EXISTS (SELECT FROM audit_archives AS file
                  WHERE audit_seals.id BETWEEN file.first_seal AND file.last_seal)
    ORDER BY id
"""
SEALS_IN_A_PAGE = 10  # their leaves take up to 160 kB each
ROWS = "id <= $1 ORDER BY id"
SEAL = ("algorithm", "digest", "leaves")  # besides the fields of a seal
REMOVAL = ("id", "digest", "rows")
# How ROW is named in JSON; `created_at` is the number that timestamptz_send sends.
NAMES = tuple("created_at" if "created_at" in name else name for name in ROW)

encode = json.JSONEncoder(ensure_ascii=False).encode


async def write_evidence(
    db: Database,
    folder: Path,
    progress: Callable[[int], None] = lambda rows: None,
    archive: Archive | None = None,
) -> int:
    """Write all that is sealed, as of one moment, into new files; return the number of rows.

    Which it is stands on the trail before. Memory stays flat.

    Args:
        progress: called with the number of rows that were written.
        archive: where rows are that were archived.

    Raises:
        NoArchive: rows were archived, and nobody says where.
        CommandError: the folder or a file in it cannot be written, or is there already.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}") from None
    with ExitStack() as stack:
        out = {
            name: stack.enter_context(new_file(str(folder / f"{name}.ndjson"))) for name in FILES
        }
        await record(db, "audit.evidence", "audit_logs")
        async with transaction(db, "repeatable_read", readonly=True) as connection:
            ever_made = await connection.fetchval(SEALS_EVER_MADE)
            _write(out["trail"], {"format": FORMAT, "seals_ever_made": ever_made})
            await _removals(connection, out["removals"])
            await _seals(connection, out["seals"])
            rows = 0
            async for number in _archived(connection, out["rows"], archive):
                rows += number
                progress(number)
            async for number in _rows(connection, out["rows"]):
                rows += number
                progress(number)
    return rows


async def _removals(connection: Connection, out: BinaryIO) -> None:
    names = (*(field.name for field in fields(Removal)), *REMOVAL)
    async for page in pages(connection, ALL, size=IN_A_PAGE):
        for row in page:
            _write(out, {name: _plain(row[name]) for name in names})


async def _seals(connection: Connection, out: BinaryIO) -> None:
    names = (*(field.name for field in fields(Seal)), *SEAL)
    async for page in pages(connection, SEALS, size=SEALS_IN_A_PAGE):
        for row in page:
            gone = {how: row[f"{how}_at"] is not None for how in ("pruned", "archived")}
            _write(out, {**{name: _plain(row[name]) for name in names}, **gone})


async def _archived(
    connection: Connection, out: BinaryIO, archive: Archive | None
) -> AsyncIterator[int]:
    """Write rows that were archived, which come before those of the table."""
    async for page in pages(connection, ARCHIVED, size=SEALS_IN_A_PAGE):
        if archive is None:
            raise NoArchive
        for seal in map(Seal.of, page):
            async for rows in archive.sealed(seal):
                for row in rows:
                    _write(out, row_in_json(row))
                yield len(rows)


async def _rows(connection: Connection, out: BinaryIO) -> AsyncIterator[int]:
    last_id = await connection.fetchval(LAST_ID)
    async for page in trail_pages(connection, ROW, ROWS, last_id):
        for row in page:
            _write(out, row_in_json(row))
        yield len(page)


def row_in_json(row: Record | tuple[Any, ...]) -> Mapping[str, Any]:
    """Return a row of ROW as JSON is to say it."""
    said = dict(zip(NAMES, map(_plain, row), strict=True))
    said["created_at"] = int.from_bytes(row[NAMES.index("created_at")], "big", signed=True)
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return microseconds(value) if isinstance(value, datetime) else value


def _write(out: BinaryIO, said: Mapping[str, Any]) -> None:
    out.write(encode(said).encode() + b"\n")
