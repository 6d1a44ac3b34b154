"""What is looked at in a restored database: rows, schema, trail, seals."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from audit.cli import CommandError
from audit.database import Database
from audit.exported import exported
from audit.paging import pages, transaction
from audit.printable import printable
from home.config.processes import ended
from home.config.settings import ROOT
from home.database.engine import Engine
from home.database.migrations import applied_migrations, known_migrations
from home.drill.backup import DrillFailed
from home.drill.beside import Place

TABLES = """
    SELECT relname::text AS name, format('SELECT count(*) FROM %I', relname) AS question
    FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition
      AND relnamespace = quote_ident(current_schema())::regnamespace
    ORDER BY relname
"""
NEWEST = "SELECT max(created_at) FROM audit_logs"
SEALS = "SELECT id, digest, created_at FROM audit_seals ORDER BY id"
FOUND = "SELECT id, digest FROM audit_seals WHERE id = ANY($1::bigint[])"
LAST_SEAL = "SELECT coalesce(max(id), 0) FROM audit_seals"
SEALED = "SELECT coalesce(sum(row_count), 0)::bigint FROM audit_seals WHERE pruned_at IS NULL"
# A seal is made for a moment before it is there for others: so old, it has to be in the backup.
SURELY = timedelta(minutes=5)
SAID = 200_000  # bytes of what a command prints that are kept

Counts = dict[str, tuple[int | None, int | None]]


class Stored(NamedTuple):
    """A seal as it is kept somewhere."""

    id: int
    digest: str
    created_at: datetime


async def counts(restored: Database, live: Database) -> Counts:
    """Return rows in the backup, and live now, by table; None where there is no such table."""
    both = [await _counts(db) for db in (restored, live)]
    return {name: (both[0].get(name), both[1].get(name)) for name in sorted({*both[0], *both[1]})}


async def _counts(db: Database) -> dict[str, int]:
    async with transaction(db, "repeatable_read", readonly=True) as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")  # of the role
        return {
            row["name"]: await connection.fetchval(row["question"])
            for row in await connection.fetch(TABLES)
        }


async def pending(restored: Engine) -> list[str]:
    """Return the migrations that this release has and the backup has not.

    Raises:
        DrillFailed: the backup is of another application, or of a newer release.
    """
    async with restored.connection() as connection:
        applied, known = await applied_migrations(connection), known_migrations()
    if not applied & known:
        raise DrillFailed("the backup holds no tables of this application: it is of another one")
    if newer := sorted(applied - known):
        raise DrillFailed(
            f"the backup is of a newer release, whose migration {printable(newer[0])[:100]} is not"
            " known here: drill it with that release"
        )
    return sorted(known - applied)


async def migrate(restored: Engine, place: Place) -> None:
    """Apply them, as one would after restoring a backup of an older release.

    Raises:
        DrillFailed: that failed.
    """
    code, lines = await _command(restored, place, "migrate")
    if code:
        raise DrillFailed(f"the restored database cannot be migrated: {' '.join(lines)}")


def is_of_trail(problem: str) -> bool:
    """Return whether a problem of the schema is one of the trail's own tables."""
    return re.match(r"schema: (table|column) audit_", problem) is not None


async def schema_problems(restored: Engine, place: Place) -> list[str]:
    """Return what `piccolo home verify` says of the restored database; nothing where it is well."""
    code, lines = await _command(restored, place, "verify")
    return [f"schema: {line}" for line in lines] if code else []


async def _command(restored: Engine, place: Place, name: str) -> tuple[int, list[str]]:
    """Run `piccolo home ...` on the restored database, in a process of its own: the tables of this
    process belong to the live one."""
    env = {**os.environ, "DATABASE_URL": place.url, "DATABASE_URL_FILE": "", "DB_POOLER": "none",
           "DATABASE_REPLICA_URL_FILE": "", "ENVIRONMENT": "development"}  # fmt: skip
    if restored.settings.database_replica_url is not None:  # .env may name one
        env["DATABASE_REPLICA_URL"] = place.url
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "home", "home", name,
        env=env, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    async with ended(process):
        said = b""
        while some := await process.stdout.read(SAID):
            said = (said + some)[:SAID]
        code = await process.wait()
    return code, [printable(line)[:500] for line in said.decode(errors="replace").splitlines()]


async def live_seals(live: Database) -> AsyncIterator[list[Stored]]:
    """Yield the seals of the live trail."""
    async with transaction(live, "repeatable_read", readonly=True) as connection:
        async for page in pages(connection, SEALS):
            yield [Stored(*row) for row in page]


async def kept_seals(path: Path) -> AsyncIterator[list[Stored]]:
    """Yield the seals of a file from `piccolo audit seals`.

    Raises:
        CommandError: it is none.
    """
    if path.exists() and not path.is_file():  # it is read twice, and a pipe would be waited for
        raise CommandError(f"{path.name} is not a file")
    for each in exported(path):
        yield [Stored(each.seal.id, each.digest, each.seal.created_at)]


async def compare_seals(
    restored: Database, elsewhere: AsyncIterator[list[Stored]], name: str, newest: datetime | None
) -> tuple[int, str]:
    """Look for the seals that are kept elsewhere in the backup.

    Args:
        name: of where they are kept.
        newest: when the newest row of the backup's trail was written. What was sealed after it
            need not be in the backup.

    Returns:
        How many are in it, and the first one that is not, in words.
    """
    same, last = 0, await restored.fetchval(LAST_SEAL)
    async for page in elsewhere:
        rows = await restored.fetch(FOUND, [each.id for each in page])
        found = {row["id"]: row["digest"] for row in rows}
        for each in page:
            digest = found.get(each.id)
            if digest is None:
                if each.id <= last or newest is None or each.created_at < newest - SURELY:
                    return same, f"seal {each.id} of {name} is not in the backup"
            elif digest != each.digest:
                return same, f"seal {each.id} of the backup is not that of {name}"
            else:
                same += 1
    return same, ""


async def newer_seal(restored: Database, live: Database) -> str:
    """Return in words that the backup has a seal that the live trail has not, if so."""
    ours, theirs = [await db.fetchval(LAST_SEAL) for db in (restored, live)]
    if ours <= theirs:
        return ""
    return (
        f"the backup has seal {ours}, the live trail only {theirs}: it was cut off, or is another"
    )
